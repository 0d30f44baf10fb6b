//! A control group that gives a server a part of one processor.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Microseconds in which the part is counted, the kernel's default.
const PERIOD: u32 = 100_000;

/// The group; it is removed with this value, when the server has ended.
pub(crate) struct Slow(PathBuf);

impl Slow {
    /// A group for so many hundredths of a processor; of whichever kind is there.
    pub(crate) fn new(percent: u32) -> io::Result<Self> {
        let name = format!("remoteboot-storm-{}", std::process::id());
        let quota = PERIOD / 100 * percent;
        let of_one_kind = Path::new("/sys/fs/cgroup/cpu");
        if of_one_kind.is_dir() {
            let group = of_one_kind.join(name);
            fs::create_dir_all(&group)?;
            fs::write(group.join("cpu.cfs_period_us"), PERIOD.to_string())?;
            fs::write(group.join("cpu.cfs_quota_us"), quota.to_string())?;
            return Ok(Self(group));
        }
        let group = Path::new("/sys/fs/cgroup").join(name);
        fs::create_dir_all(&group)?;
        fs::write(group.join("cpu.max"), format!("{quota} {PERIOD}"))?;
        Ok(Self(group))
    }

    /// Takes a process in, with all of its threads and children.
    pub(crate) fn take(&self, pid: u32) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())?;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            self.take(child.parse().map_err(io::Error::other)?)?;
        }
        Ok(())
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
