//! The daemon under test, and its socket as InfraKit uses it.
//!
//! Knows the command line and the wire (JSON-RPC by HTTP on a Unix socket), and
//! nothing of how the daemon does its work.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Lab, ended_within, last_lines, within};

/// A daemon that runs. Dropping it asks it to end, and ends it if it does not.
pub(crate) struct Daemon {
    process: Child,
    folder: PathBuf,
}

impl Daemon {
    #[track_caller]
    pub(super) fn start(
        lab: &Lab,
        loaders: &Path,
        (network, arguments): (&[&str], &[&str]),
    ) -> Self {
        let folder = lab.folder().join("daemon");
        for name in ["state", "plugins"] {
            fs::create_dir_all(folder.join(name)).expect("the lab's folder can be written");
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .expect("the daemon's folder can be written");
        let process = lab
            .command(env!("CARGO_BIN_EXE_remoteboot"))
            .args(network)
            .args(["--enableTFTP", "--enableHTTP"])
            .arg("--images")
            .arg(lab.images())
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("--ipxe-dir")
            .arg(loaders)
            .args(arguments)
            .env("INFRAKIT_PLUGINS_DIR", folder.join("plugins"))
            .stdout(log.try_clone().expect("a file can be opened twice"))
            .stderr(log)
            .spawn()
            .expect("nsenter starts");
        let mut daemon = Self { process, folder };
        let answers = within(Duration::from_secs(20), || {
            if let Ok(Some(status)) = daemon.process.try_wait() {
                panic!("the daemon ended ({status}), its log:\n{}", daemon.log());
            }
            daemon.ask("Instance.DescribeInstances", &nothing_but_all()).ok()
        });
        assert!(answers.is_some(), "its socket does not answer, its log:\n{}", daemon.log());
        daemon
    }

    /// Calls a method of the plugin and returns its `result`.
    ///
    /// # Panics
    ///
    /// When there is no answer in time or the answer is an error.
    #[track_caller]
    pub(crate) fn call(&self, method: &str, parameters: Value) -> Value {
        match self.try_call(method, parameters) {
            Ok(result) => result,
            Err(error) => panic!("{method}: {error}\n--- log\n{}", last_lines(&self.log(), 30)),
        }
    }

    /// Calls a method of the plugin.
    ///
    /// # Errors
    ///
    /// The `error` of the answer, as it is on the wire.
    ///
    /// # Panics
    ///
    /// When there is no answer in time, or it is no answer.
    #[track_caller]
    pub(crate) fn try_call(&self, method: &str, parameters: Value) -> Result<Value, Value> {
        let mut answer = self.ask(method, &parameters).unwrap_or_else(|error| {
            panic!("{method}: {error}\n--- log\n{}", last_lines(&self.log(), 30))
        });
        match answer.get_mut("error").map(Value::take) {
            None | Some(Value::Null) => Ok(answer["result"].take()),
            Some(error) => Err(error),
        }
    }

    /// Provisions an instance with these properties, as a group without tags
    /// would, and returns its ID.
    #[track_caller]
    pub(crate) fn provision(&self, properties: Value) -> String {
        self.provision_with("", properties)
    }

    /// The same with this Init.
    #[track_caller]
    pub(crate) fn provision_with(&self, init: &str, properties: Value) -> String {
        let spec = json!({
            "Properties": properties, "Tags": {}, "Init": init, "LogicalID": null, "Attachments": null
        });
        let result = self.call("Instance.Provision", json!({ "Type": "", "Spec": spec }));
        let id = result["ID"].as_str().unwrap_or_else(|| panic!("no ID in {result}"));
        id.to_owned()
    }

    /// Has the machine of an instance stop its work, in ten seconds at most.
    #[track_caller]
    pub(crate) fn drain(&self, id: &str) {
        let parameters = json!({
            "Type": "", "Properties": {"DrainTimeout": "10s"},
            "Instance": {"ID": id, "LogicalID": null, "Tags": null},
        });
        let result = self.call("Flavor.Drain", parameters);
        assert_eq!(result["OK"], json!(true), "Drain {id}");
    }

    /// Destroys an instance.
    #[track_caller]
    pub(crate) fn destroy(&self, id: &str) {
        let context = json!({ "Reason": "terminate" });
        let parameters = json!({ "Type": "", "Instance": id, "Context": context });
        let result = self.call("Instance.Destroy", parameters);
        assert_eq!(result["OK"], json!(true), "Destroy {id}");
    }

    /// The IDs of all instances.
    #[track_caller]
    pub(crate) fn instances(&self) -> Vec<String> {
        let result = self.call("Instance.DescribeInstances", nothing_but_all());
        let descriptions = result["Descriptions"].as_array().cloned().unwrap_or_default();
        let ids =
            descriptions.iter().map(|description| description["ID"].as_str().map(str::to_owned));
        ids.map(|id| id.expect("each instance has an ID")).collect()
    }

    /// What Describe tells of one instance, with its Properties.
    #[track_caller]
    pub(crate) fn describe(&self, id: &str) -> Value {
        let all = json!({ "Type": "", "Tags": {}, "Properties": true });
        let result = self.call("Instance.DescribeInstances", all);
        let found = result["Descriptions"]
            .as_array()
            .and_then(|all| all.iter().find(|description| description["ID"] == id).cloned());
        found.unwrap_or_else(|| panic!("there is no {id} in {result}"))
    }

    /// The plugin's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("plugins/remoteboot")
    }

    /// What it has written to its standard output and error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    ///
    /// When it runs on for ten seconds.
    #[track_caller]
    pub(crate) fn terminate(mut self) {
        assert!(self.asked_to_end(), "it runs on after SIGTERM, its log:\n{}", self.log());
    }

    fn asked_to_end(&mut self) -> bool {
        // A process that has ended already has nobody left to ask.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        ended_within(&mut self.process, Duration::from_secs(10))
    }

    /// One call on a connection of its own; the whole answer.
    fn ask(&self, method: &str, parameters: &Value) -> io::Result<Value> {
        let call = json!({ "jsonrpc": "2.0", "method": method, "params": parameters, "id": 1 })
            .to_string();
        let mut stream = UnixStream::connect(self.socket())?;
        // InfraKit's own client gives up after 15 seconds.
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{call}",
            call.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or_else(|| io::Error::other(format!("no HTTP answer: {answer:?}")))?;
        serde_json::from_str(body)
            .map_err(|error| io::Error::other(format!("{error}: {head}\n{body}")))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}", last_lines(&self.log(), 60));
        }
        if !self.asked_to_end() {
            drop(self.process.kill());
            drop(self.process.wait());
        }
    }
}

/// The parameters that describe every instance.
fn nothing_but_all() -> Value {
    json!({ "Type": "", "Tags": {}, "Properties": false })
}
