//! Settings of the kernel that netlink does not offer, through /proc/sys.

use std::fs;
use std::io;

#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} /proc/sys/{key}: {source}{remedy}")]
pub struct SysctlError {
    verb: &'static str,
    key: String,
    source: io::Error,
    remedy: String,
}

/// `key` is a path below /proc/sys: interfaces have dots in their names.
pub fn read(key: &str) -> Result<String, SysctlError> {
    let text = fs::read_to_string(path(key)).map_err(|source| SysctlError {
        verb: "read",
        key: key.into(),
        source,
        remedy: String::new(),
    })?;
    Ok(text.trim().into())
}

/// What is so already is not written: a container often sees /proc/sys, but must not write there.
pub fn set(key: &str, value: &str) -> Result<(), SysctlError> {
    if read(key)? == value {
        return Ok(());
    }
    fs::write(path(key), value).map_err(|source| {
        let remedy = match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                format!(
                    "; it must be {value}: set it from outside, or let this process write to /proc/sys/net"
                )
            }
            _ => String::new(),
        };
        SysctlError { verb: "write", key: key.into(), source, remedy }
    })
}

/// A kernel without IPv6 has none of its settings.
#[must_use]
pub fn exists(key: &str) -> bool {
    fs::exists(path(key)).unwrap_or(false)
}

fn path(key: &str) -> String {
    format!("/proc/sys/{key}")
}
