//! How results become answers: the value, or the errno.

use crate::convert;
use fuser::{Errno, ReplyAttr, ReplyEmpty, ReplyXattr};
use std::time::Duration;
use vault_core::fs::Attr;

/// How long the kernel may trust names and attributes: for the life of any mount.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

pub(crate) fn attr(reply: ReplyAttr, attr: Result<Attr, Errno>) {
    match attr {
        Ok(attr) => reply.attr(&FOR_EVER, &convert::attr(&attr)),
        Err(error) => reply.error(error),
    }
}

pub(crate) fn empty(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

/// Answers with `value`, or its size if the caller only asks how much room it needs.
pub(crate) fn sized(reply: ReplyXattr, room: u32, value: Result<Vec<u8>, Errno>) {
    match value {
        Ok(value) => match (u32::try_from(value.len()), room) {
            (Ok(size), 0) => reply.size(size),
            (Ok(size), room) if size <= room => reply.data(&value),
            (Ok(_), _) => reply.error(Errno::ERANGE),
            (Err(_), _) => reply.error(Errno::E2BIG),
        },
        Err(error) => reply.error(error),
    }
}
