//! Decoded clean nodes, bounded in memory.
//!
//! Entries are found by address and birth: an address that was reused for another block has
//! another birth, so a stale entry can never answer for it.

use crate::format::pointer::Pointer;
use crate::tree::node::Node;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Encoded bytes of nodes that are kept; decoded they take about twice that.
const BUDGET: usize = 20 << 20;

type Place = (u64, u64);

struct Entry {
    node: Arc<Node>,
    weight: usize,
    used: AtomicBool,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Place, Entry>,
    /// Second-chance order: an entry used since it was last looked at goes round once more.
    order: VecDeque<Place>,
    weight: usize,
}

/// A second-chance cache of clean nodes.
pub(crate) struct NodeCache(Mutex<Inner>);

impl NodeCache {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Inner::default()))
    }

    /// Returns the node that `pointer` leads to, if it is kept.
    pub(crate) fn find(&self, pointer: &Pointer) -> Option<Arc<Node>> {
        let inner = self.0.lock();
        let entry = inner.entries.get(&place(pointer))?;
        entry.used.store(true, Ordering::Relaxed);
        Some(Arc::clone(&entry.node))
    }

    /// Keeps a node, and lets others go to stay within the budget.
    pub(crate) fn insert(&self, pointer: &Pointer, node: Arc<Node>) {
        let weight = usize::from(pointer.units) * crate::ids::UNIT;
        let mut inner = self.0.lock();
        let entry = Entry { node, weight, used: AtomicBool::new(false) };
        if let Some(old) = inner.entries.insert(place(pointer), entry) {
            inner.weight -= old.weight;
        } else {
            inner.order.push_back(place(pointer));
        }
        inner.weight += weight;
        inner.evict();
    }

    /// Forgets a node whose block was freed, and returns it for editing.
    pub(crate) fn take(&self, pointer: &Pointer) -> Option<Arc<Node>> {
        let mut inner = self.0.lock();
        let entry = inner.entries.remove(&place(pointer))?;
        inner.weight -= entry.weight;
        Some(entry.node)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        *self.0.lock() = Inner::default();
    }
}

impl Inner {
    fn evict(&mut self) {
        while self.weight > BUDGET || self.order.len() > 2 * self.entries.len() + 64 {
            let Some(oldest) = self.order.pop_front() else { return };
            let Some(entry) = self.entries.get(&oldest) else { continue };
            if entry.used.swap(false, Ordering::Relaxed) {
                self.order.push_back(oldest);
            } else if let Some(entry) = self.entries.remove(&oldest) {
                self.weight -= entry.weight;
            }
        }
    }
}

fn place(pointer: &Pointer) -> Place {
    (pointer.address.0, pointer.birth.0)
}
