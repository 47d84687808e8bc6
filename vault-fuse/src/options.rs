//! What can be chosen about a mount.

/// When reading a file moves its access time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTimes {
    /// When it is older than the last change or than a day, as Linux mounts do by default.
    Relative,
    /// Never.
    Never,
}

/// How a vault is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The name shown as the source in `/proc/self/mountinfo`.
    pub source: String,
    /// Refuse every change in the kernel already.
    pub read_only: bool,
    /// Threads that answer requests.
    pub threads: usize,
    /// When reading moves access times.
    pub access_times: AccessTimes,
    /// Whether the mount lives in a user namespace of its own, as that of a ghost does. Nobody in there is root of the
    /// machine, so nobody can read attributes of the class `trusted`, and they are listed to nobody.
    pub in_user_namespace: bool,
    /// Whether the kernel collects writes before it hands them over (its "writeback cache").
    ///
    /// Many small writes to one file are faster then, by up to ten times. In return the kernel forgets a file's
    /// block count whenever anybody closes it and asks again at the next `stat`, also of files that are only read; what
    /// was written reaches the vault up to half a minute late; and a write that fails is told at `close` or `fsync`.
    pub write_back: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            source: "tazpod".to_owned(),
            read_only: false,
            // Four answer single 4 KiB reads 1.7 times as fast as one; more gain nothing on small machines.
            threads: 4,
            access_times: AccessTimes::Relative,
            in_user_namespace: false,
            write_back: false,
        }
    }
}

/// Bytes of the largest single read or write; Linux caps requests at 256 pages.
pub(crate) const MAX_IO: u32 = 1 << 20;

impl Options {
    /// Returns the option string of `mount(2)`. It is made of numbers only, so nothing a caller chose can add an option.
    pub(crate) fn mount_data(fd: i32, root_mode: u32, uid: u32, gid: u32) -> String {
        format!(
            "fd={fd},rootmode={root_mode:o},user_id={uid},group_id={gid},default_permissions,allow_other,max_read={MAX_IO}"
        )
    }

    /// Returns the source with everything but plain characters replaced, so that no reader of mount tables is fooled.
    pub(crate) fn plain_source(&self) -> String {
        let plain =
            |c: char| if c.is_ascii_alphanumeric() || "._-/:".contains(c) { c } else { '_' };
        let source: String = self.source.chars().map(plain).collect();
        if source.is_empty() { "tazpod".to_owned() } else { source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_cannot_smuggle_options() {
        let options =
            Options { source: "a,allow_dev suid\n\\040".to_owned(), ..Options::default() };
        assert_eq!(options.plain_source(), "a_allow_dev_suid__040");
        assert_eq!(Options { source: String::new(), ..options }.plain_source(), "tazpod");
    }

    #[test]
    fn permissions_are_checked_by_the_kernel() {
        let data = Options::mount_data(3, 0o40755, 1000, 1000);
        assert!(data.starts_with("fd=3,rootmode=40755,user_id=1000,group_id=1000,"));
        assert!(data.contains("default_permissions"));
    }
}
