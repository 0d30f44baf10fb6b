//! CPU seconds of a server with all that it ever started, to the microsecond: it runs
//! in a control group of its own.

use std::{fs, path::PathBuf, process::Command};

use crate::server::Kind;

pub(crate) struct Meter {
    group: PathBuf,
    /// The version of control groups that this system has.
    is_second: bool,
}

impl Meter {
    pub(crate) fn new(kind: Kind) -> Self {
        let name = format!("remoteboot-{}-{kind:?}", std::process::id());
        let is_second = fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false);
        let root = if is_second { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/cpuacct" };
        let group = PathBuf::from(root).join(name);
        fs::create_dir_all(&group).expect("a control group can be made");
        Self { group, is_second }
    }

    /// The command, begun inside of the group.
    pub(crate) fn inside(&self, command: Command) -> Command {
        let mut inside = Command::new("sh");
        inside.args(["-c", r#"echo $$ >"$0" && exec "$@""#]).arg(self.group.join("cgroup.procs"));
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            inside.env(name, value.unwrap_or_default());
        }
        inside.stdin(std::process::Stdio::null());
        inside
    }

    /// What was used since the group was made.
    pub(crate) fn seconds(&self) -> f64 {
        let of = |name| fs::read_to_string(self.group.join(name)).unwrap_or_default();
        if self.is_second {
            let text = of("cpu.stat");
            let line = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
            return line.and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e6;
        }
        of("cpuacct.usage").trim().parse::<f64>().unwrap_or(f64::NAN) / 1e9
    }
}

impl Drop for Meter {
    /// It goes with the last process in it.
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.group).is_ok() {
                return;
            }
            let members = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
            for process in members.lines() {
                let _ = Command::new("kill").args(["-KILL", process]).status();
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
