//! A server that speaks Infisical's interface, as far as it hands out secrets, for tests.
//!
//! It answers v4 and v3 (or v3 alone), resolves imports, folders, tags and references, hides values, ends and renews
//! tokens, locks client secrets, and misbehaves on request: slow, cut off half-way, garbage, too much. It writes down
//! what it was asked. The official SDKs read from it too (`tests/run infisical`), so that it is not only our idea of
//! the interface.

mod answers;
mod http;
mod proxy;
mod tls;
mod world;

pub use http::{Seen, Trouble};
pub use proxy::Proxy;
pub use tls::ELSEWHERE;
pub use world::{CLIENT_ID, CLIENT_SECRET, IDENTITY, Item, PROJECT_ID, PROJECT_SLUG, World};

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// A running server, stopped when dropped.
pub struct Server {
    /// Its address, without a slash at its end.
    pub url: String,
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    world: Mutex<World>,
    seen: Mutex<Vec<Seen>>,
    troubles: Mutex<Vec<(Trouble, usize)>>,
    answered: Mutex<Option<SystemTime>>,
    stopped: AtomicBool,
}

impl Server {
    /// Starts one on this machine, over plain HTTP.
    ///
    /// # Panics
    /// When the machine has no port left.
    pub fn start() -> Self {
        Self::listen(None)
    }

    /// Starts one over TLS for `localhost` and for [`ELSEWHERE`], with a CA of its own whose certificate is written to `ca_file`.
    ///
    /// # Panics
    /// When the machine has no port left or the file cannot be written.
    pub fn start_tls(ca_file: &Path) -> Self {
        let (config, ca) = tls::authority().expect("a certificate can be made");
        std::fs::write(ca_file, ca).expect("the CA's certificate can be written");
        Self::listen(Some(config))
    }

    fn listen(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let url = match &tls {
            None => format!("http://127.0.0.1:{}", address.port()),
            Some(_) => format!("https://localhost:{}", address.port()),
        };
        let shared = Arc::new(Shared {
            world: Mutex::new(World::new()),
            seen: Mutex::default(),
            troubles: Mutex::default(),
            answered: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, tls.as_ref(), &serving));
        Self { url, address, shared }
    }

    /// Starts a proxy that connects to this server, whatever host it is asked for.
    pub fn proxy(&self) -> Proxy {
        Proxy::before(self.address)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// When it had given its last whole answer; `None` before the first.
    pub fn answered(&self) -> Option<SystemTime> {
        *lock(&self.shared.answered)
    }

    /// What the server has, to be looked at and changed.
    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.shared.world)
    }

    /// What it was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// How often it was asked for paths that begin like this.
    pub fn count(&self, path: &str) -> usize {
        lock(&self.shared.seen).iter().filter(|seen| seen.path.starts_with(path)).count()
    }

    /// Lets the next `times` requests meet trouble instead of an answer.
    pub fn trouble(&self, trouble: Trouble, times: usize) {
        lock(&self.shared.troubles).push((trouble, times));
    }

    /// Forgets the troubles that were not met yet.
    pub fn calm(&self) {
        lock(&self.shared.troubles).clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, tls: Option<&Arc<rustls::ServerConfig>>, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let (tls, shared) = (tls.cloned(), Arc::clone(shared));
        std::thread::spawn(move || {
            // A client that goes away is its own business.
            let _ = match tls {
                None => http::serve(stream, &shared),
                Some(config) => tls::wrap(stream, config).and_then(|s| http::serve(s, &shared)),
            };
        });
    }
}

/// Takes a lock also when another test's thread failed while it held it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
