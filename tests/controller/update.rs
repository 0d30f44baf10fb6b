//! The rolling update: strictly destroy first, one at a time, lowest ID first.
//! That the member is replaced is the other loop's work.

use std::{collections::HashMap, sync::atomic::AtomicBool, time::Instant};

use super::{Group, Member, Watch, sorted};

/// Since when, and in how many polls, a member has been healthy.
struct Well {
    since: Instant,
    polls: u32,
}

/// Replaces all that are not as the group says; nothing if it was stopped.
pub(super) fn roll(watch: &Watch, stop: &AtomicBool) -> Option<Result<(), String>> {
    let group = watch.group();
    let is_new = |member: &Member| member.hash() == Some(group.hash().as_str());
    let mut well = HashMap::new();
    let mut expected = match watch.labelled() {
        Ok(members) => members.iter().filter(|member| is_new(member)).count(),
        Err(error) => return Some(Err(error.to_string())),
    };
    loop {
        // Until the new ones are well.
        let members = loop {
            if !watch.waits_out_interval(stop) {
                return None;
            }
            let members = match watch.labelled() {
                Ok(members) => members,
                Err(error) => return Some(Err(error.to_string())),
            };
            let new: Vec<&Member> = members.iter().filter(|member| is_new(member)).collect();
            let count =
                new.iter().filter(|member| is_well(watch, &group, &mut well, member)).count();
            if count >= expected.min(group.allocation.count()) {
                break members;
            }
        };
        let old = sorted(members).into_iter().find(|member| !is_new(member));
        let Some(old) = old else { return Some(Ok(())) };
        if let Err(error) = watch.destroy(&old, "rolling_update") {
            return Some(Err(error.to_string()));
        }
        expected += 1;
    }
}

/// Whether it is healthy, and has been so long enough.
fn is_well(
    watch: &Watch,
    group: &Group,
    well: &mut HashMap<String, Well>,
    member: &Member,
) -> bool {
    if watch.health(member) != 1 {
        well.remove(&member.id);
        return false;
    }
    let known = well.entry(member.id.clone()).or_insert(Well { since: Instant::now(), polls: 0 });
    known.polls += 1;
    known.since.elapsed() >= group.updating.duration && known.polls >= group.updating.count
}
