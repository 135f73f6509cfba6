//! The limits of the machine for this process: descriptors and memory.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits of the machine for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Open descriptors: the soft `RLIMIT_NOFILE`.
    pub nofile: u64,
    /// Bytes of memory, by the cgroups that the process is in; `None` means no limit.
    pub memory_max: Option<u64>,
}

impl Machine {
    /// Raises the soft limit of descriptors to the hard one, and reads what the process may use.
    pub fn read() -> Self {
        Self {
            nofile: raise_nofile(),
            memory_max: memory_max(),
        }
    }

    /// The same machine with `count` descriptors less, which are not for connections.
    #[must_use]
    pub const fn without_descriptors(self, count: usize) -> Self {
        Self {
            nofile: self.nofile.saturating_sub(count as u64),
            ..self
        }
    }
}

fn raise_nofile() -> u64 {
    let before = getrlimit(Resource::Nofile);
    // A refusal is not a fault: portway reads the limit in force back, and logs what it bounds.
    let _refused_or_raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: before.maximum,
            maximum: before.maximum,
        },
    );
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn memory_max() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_files(&own)
        .iter()
        .filter_map(|file| parse_limit(&fs::read_to_string(file).ok()?))
        .min()
}

/// The files with the memory limits of a process with this `/proc/self/cgroup` (see cgroups(7)):
/// those of its own cgroup and of all above it. In a container the path may be the host's while only
/// the root is mounted, so a file may be missing.
fn limit_files(own: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(hierarchy), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, file) = if hierarchy == "0" && controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers
            .split(',')
            .any(|controller| controller == "memory")
        {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let path = Path::new(path.trim_start_matches('/'));
        files.extend(
            path.ancestors()
                .map(|above| Path::new(root).join(above).join(file)),
        );
    }
    files
}

/// A limit in bytes; `None` for `max`. Version 1 writes "no limit" as a huge number.
fn parse_limit(content: &str) -> Option<u64> {
    content.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(own: &str) -> Vec<String> {
        limit_files(own)
            .iter()
            .map(|file| file.display().to_string())
            .collect()
    }

    #[test]
    fn version_2_limits_are_those_of_the_own_cgroup_and_all_above() {
        assert_eq!(
            files("0::/system.slice/portway.service\n"),
            [
                "/sys/fs/cgroup/system.slice/portway.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
    }

    #[test]
    fn version_1_limits_are_those_of_the_memory_hierarchy() {
        assert_eq!(
            files("5:cpu,cpuacct:/a\n4:memory:/docker/x:y\n1:name=systemd:/a\nnonsense\n"),
            [
                "/sys/fs/cgroup/memory/docker/x:y/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
    }

    #[test]
    fn a_limit_is_a_number_or_none() {
        assert_eq!(parse_limit("536870912\n"), Some(536_870_912));
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit(""), None);
    }

    #[test]
    fn reading_raises_the_soft_limit_of_descriptors_to_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        assert_eq!(Machine::read().nofile, hard);
    }
}
