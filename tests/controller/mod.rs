//! InfraKit's group controller as far as a plugin sees it: the calls, their order,
//! what makes it act and what makes it stop. It does what that controller was
//! seen to do, and no more; it knows nothing of this plugin but its socket.
// Each test file uses its own part of it.
#![allow(dead_code)]

mod client;
mod group;
mod update;

pub(crate) use client::{Client, Failed};
pub(crate) use group::{Allocation, Group};

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// The tag that says whose an instance is.
pub(crate) const GROUP_TAG: &str = "infrakit.group";
/// The tag that says what an instance was made of.
pub(crate) const HASH_TAG: &str = "infrakit.config.hash";
/// The value of that tag by which an instance asks to be adopted.
pub(crate) const BOOTSTRAP: &str = "bootstrap";
/// The tag that repeats the logical ID.
pub(crate) const LOGICAL_ID_TAG: &str = "infrakit.logical_id";

/// What it has done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Provisioned(String),
    /// It is about to be asked for.
    Destroying(String),
    Destroyed(String, &'static str),
    Adopted(String),
    Refused(&'static str, String),
}

/// An instance as Describe tells of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) logical_id: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) properties: Value,
    description: Value,
}

impl Member {
    fn read(description: &Value) -> Self {
        let tags: BTreeMap<String, String> =
            serde_json::from_value(description["Tags"].clone()).unwrap_or_default();
        let named = description["LogicalID"].as_str().map(str::to_owned);
        Self {
            id: description["ID"].as_str().expect("an ID").to_owned(),
            logical_id: named.or_else(|| tags.get(LOGICAL_ID_TAG).cloned()),
            tags,
            properties: description["Properties"].clone(),
            description: description.clone(),
        }
    }

    fn hash(&self) -> Option<&str> {
        self.tags.get(HASH_TAG).map(String::as_str)
    }

    /// The card of its machine, as this plugin tells it.
    pub(crate) fn mac(&self) -> &str {
        self.properties["mac"].as_str().expect("this plugin tells it")
    }
}

/// A group that is being watched. It is let go of, and its instances stay, when
/// this is dropped.
pub(crate) struct Controller {
    watch: Arc<Watch>,
    threads: Vec<JoinHandle<()>>,
    update: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

/// What the loops share.
struct Watch {
    client: Mutex<Arc<Client>>,
    group: Mutex<Group>,
    interval: Duration,
    events: Mutex<Vec<Event>>,
    outcome: Mutex<Option<Result<(), String>>>,
    ends: AtomicBool,
}

impl Controller {
    /// Commits a group that is new, and watches it from then on.
    ///
    /// # Errors
    ///
    /// What the plugin refuses it with.
    pub(crate) fn commit(socket: &Path, group: Group, interval: Duration) -> Result<Self, Failed> {
        let client = accepted(socket, &group)?;
        let watch = Arc::new(Watch {
            client: Mutex::new(client),
            group: Mutex::new(group),
            interval,
            events: Mutex::default(),
            outcome: Mutex::default(),
            ends: AtomicBool::new(false),
        });
        let converging = Arc::clone(&watch);
        let looking = Arc::clone(&watch);
        let threads = vec![
            std::thread::spawn(move || converging.every_interval(Watch::converge)),
            // What it keeps for those who ask it, from a loop of its own.
            std::thread::spawn(move || looking.every_interval(|watch| drop(watch.members(true)))),
        ];
        Ok(Self { watch, threads, update: None })
    }

    /// Commits a change. What was under way before is stopped.
    ///
    /// # Errors
    ///
    /// What the plugin refuses it with; everything stays as it was then.
    pub(crate) fn change(&mut self, group: Group) -> Result<(), Failed> {
        let client = accepted(&self.watch.client().socket, &group)?;
        self.stop_update();
        *self.watch.outcome.lock().expect("no panic") = None;
        let before = self.watch.group();
        *self.watch.client.lock().expect("no panic") = client;
        let is_old = |member: &Member| member.hash() != Some(group.hash().as_str());
        if !self.watch.members(true)?.iter().any(is_old) {
            *self.watch.group.lock().expect("no panic") = group;
            return Ok(());
        }
        // Smaller: the size first. Larger: first the update, then the size.
        let grown = group.clone();
        let (first, last) = match (&before.allocation, &group.allocation) {
            (Allocation::Size(old), Allocation::Size(new)) if new > old => {
                (Group { allocation: Allocation::Size(*old), ..group }, Some(grown))
            }
            (Allocation::Size(_) | Allocation::LogicalIds(_), _) => (group, None),
        };
        *self.watch.group.lock().expect("no panic") = first;
        let (watch, stop) = (Arc::clone(&self.watch), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let Some(outcome) = update::roll(&watch, &stopped) else { return };
            let went_well = outcome.is_ok();
            *watch.outcome.lock().expect("no panic") = Some(outcome);
            if let (true, Some(last)) = (went_well, last) {
                *watch.group.lock().expect("no panic") = last;
            }
        });
        self.update = Some((stop, thread));
        Ok(())
    }

    /// Commits the same with another size.
    pub(crate) fn scale(&mut self, size: u32) {
        let group = Group { allocation: Allocation::Size(size), ..self.watch.group() };
        self.change(group).expect("only the size is another");
    }

    /// Destroys the group: one member after the other, whatever goes wrong.
    pub(crate) fn destroy(mut self) {
        self.stop();
        let members = self.watch.members(true).expect("described");
        for member in sorted(members) {
            let _ = self.watch.destroy(&member, "terminate");
        }
    }

    /// The members as the plugin tells of them now, lowest ID first.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.watch.members(true).map(sorted).unwrap_or_default()
    }

    /// What it has done since it was made.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.watch.events.lock().expect("no panic").clone()
    }

    /// How the present update has ended, if it has: all members are new, or it has
    /// stopped for this reason.
    pub(crate) fn updated(&self) -> Option<Result<(), String>> {
        self.watch.outcome.lock().expect("no panic").clone()
    }

    pub(crate) fn group(&self) -> Group {
        self.watch.group()
    }

    fn stop_update(&mut self) {
        if let Some((stop, thread)) = self.update.take() {
            stop.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
    }

    fn stop(&mut self) {
        self.watch.ends.store(true, Ordering::Relaxed);
        self.stop_update();
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A client whose plugin has said hello and takes the group. The same client
/// serves as long as this commit does.
fn accepted(socket: &Path, group: &Group) -> Result<Arc<Client>, Failed> {
    let client = Client::new(socket);
    let hello = client.call("Handshake.Hello", &json!({}))?;
    for interface in ["Instance/0.6.1", "Flavor/0.1.1"] {
        if hello["Objects"].get(interface).is_none() {
            let text = format!("Plugin does not support interface {interface}");
            return Err(Failed::Refused(text));
        }
    }
    let flavor = json!({
        "Type": "", "Properties": group.flavor, "Allocation": group.allocation.to_json(),
    });
    client.call("Flavor.Validate", &flavor)?;
    client.call("Instance.Validate", &json!({"Type": "", "Properties": group.instance}))?;
    Ok(Arc::new(client))
}

fn sorted(mut members: Vec<Member>) -> Vec<Member> {
    members.sort_by(|one, other| one.id.cmp(&other.id));
    members
}

impl Watch {
    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client.lock().expect("no panic"))
    }

    fn group(&self) -> Group {
        self.group.lock().expect("no panic").clone()
    }

    fn note(&self, event: Event) {
        self.events.lock().expect("no panic").push(event);
    }

    fn every_interval(&self, step: impl Fn(&Self)) {
        while self.waits_out_interval(&self.ends) {
            step(self);
        }
    }

    /// Waits for the next tick; false if there is to be none.
    fn waits_out_interval(&self, stop: &AtomicBool) -> bool {
        let until = Instant::now() + self.interval;
        loop {
            if stop.load(Ordering::Relaxed) || self.ends.load(Ordering::Relaxed) {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(10)));
        }
    }

    /// All that Describe tells of the group.
    fn members(&self, properties: bool) -> Result<Vec<Member>, Failed> {
        let tags = json!({GROUP_TAG: self.group().id});
        let params = json!({"Type": "", "Tags": tags, "Properties": properties});
        let result = self.client().call("Instance.DescribeInstances", &params)?;
        // Null is "I have none", and a full set is provisioned at once.
        let described = result["Descriptions"].as_array().cloned().unwrap_or_default();
        Ok(described.iter().map(Member::read).collect())
    }

    /// Labels who asks to be adopted, and tells of all.
    fn labelled(&self) -> Result<Vec<Member>, Failed> {
        let members = self.members(true)?;
        if members.iter().all(|member| member.hash() != Some(BOOTSTRAP)) {
            return Ok(members);
        }
        let group = self.group();
        for member in self.members(false)? {
            if member.hash() == Some(BOOTSTRAP) {
                let labels = json!({GROUP_TAG: group.id, HASH_TAG: group.hash()});
                let params = json!({"Type": "", "Instance": member.id, "Labels": labels});
                self.client().call("Instance.Label", &params)?;
                self.note(Event::Adopted(member.id));
            }
        }
        self.members(true)
    }

    /// One turn of the loop that makes the number right.
    fn converge(&self) {
        let Ok(members) = self.labelled() else { return };
        let group = self.group();
        match &group.allocation {
            Allocation::Size(size) => {
                let size = usize::try_from(*size).expect("small");
                let missing = size.saturating_sub(members.len());
                self.provision(&group, &vec![None; missing]);
                let surplus = members.len().saturating_sub(size);
                self.destroy_all(&sorted(members)[..surplus]);
            }
            Allocation::LogicalIds(wanted) => {
                let present: HashSet<&str> =
                    members.iter().filter_map(|member| member.logical_id.as_deref()).collect();
                let missing: Vec<Option<&str>> = wanted
                    .iter()
                    .filter(|one| !present.contains(one.as_str()))
                    .map(|one| Some(one.as_str()))
                    .collect();
                self.provision(&group, &missing);
                // Who has no logical ID is left alone.
                let is_surplus = |member: &Member| {
                    member.logical_id.as_ref().is_some_and(|one| !wanted.contains(one))
                };
                let surplus: Vec<Member> = members.into_iter().filter(is_surplus).collect();
                self.destroy_all(&surplus);
            }
        }
    }

    /// Prepares and provisions these, all at once, and waits for all.
    fn provision(&self, group: &Group, logical_ids: &[Option<&str>]) {
        std::thread::scope(|scope| {
            for logical_id in logical_ids {
                scope.spawn(|| match self.provision_one(group, *logical_id) {
                    Ok(id) => self.note(Event::Provisioned(id)),
                    Err(error) => self.note(Event::Refused("Provision", error.to_string())),
                });
            }
        });
    }

    fn provision_one(&self, group: &Group, logical_id: Option<&str>) -> Result<String, Failed> {
        let mut tags = json!({GROUP_TAG: group.id, HASH_TAG: group.hash()});
        if let Some(logical_id) = logical_id {
            tags[LOGICAL_ID_TAG] = json!(logical_id);
        }
        let spec = json!({
            "Properties": group.instance, "Tags": tags, "Init": "", "LogicalID": logical_id,
            "Attachments": null,
        });
        let prepare = json!({
            "Type": "", "Properties": group.flavor, "Spec": spec,
            "Allocation": group.allocation.to_json(),
            // Not an index: how many there shall be, the same for all.
            "Index": {"Group": group.id, "Sequence": group.allocation.count()},
        });
        let client = self.client();
        let prepared = client.call("Flavor.Prepare", &prepare)?;
        let provision = json!({"Type": "", "Spec": prepared["Spec"]});
        let result = client.call("Instance.Provision", &provision)?;
        // The real one ends with a nil pointer here.
        Ok(result["ID"].as_str().expect("an answer without an ID ends the controller").to_owned())
    }

    fn destroy_all(&self, members: &[Member]) {
        std::thread::scope(|scope| {
            for member in members {
                scope.spawn(|| drop(self.destroy(member, "terminate")));
            }
        });
    }

    /// Drains and destroys. That it could not be drained ends a rolling update,
    /// and nothing else.
    fn destroy(&self, member: &Member, reason: &'static str) -> Result<(), Failed> {
        let client = self.client();
        let group = self.group();
        if reason != "rolling_update" || !group.updating.skips_drain {
            let drain = json!({
                "Type": "", "Properties": group.flavor, "Instance": member.description,
            });
            if let Err(error) = client.call("Flavor.Drain", &drain) {
                self.note(Event::Refused("Drain", error.to_string()));
                if reason == "rolling_update" {
                    return Err(error);
                }
            }
        }
        let params = json!({"Type": "", "Instance": member.id, "Context": {"Reason": reason}});
        self.note(Event::Destroying(member.id.clone()));
        match client.call("Instance.Destroy", &params) {
            Ok(_) => self.note(Event::Destroyed(member.id.clone(), reason)),
            Err(error) => {
                self.note(Event::Refused("Destroy", error.to_string()));
                return Err(error);
            }
        }
        Ok(())
    }

    /// 0 unknown, 1 healthy, 2 unhealthy; an error is unknown.
    fn health(&self, member: &Member) -> u64 {
        let params = json!({
            "Type": "", "Properties": self.group().flavor, "Instance": member.description,
        });
        let answer = self.client().call("Flavor.Healthy", &params);
        answer.ok().and_then(|result| result["Health"].as_u64()).unwrap_or(0)
    }
}
