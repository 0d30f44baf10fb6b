//! `remoteboot machines`: tells a running daemon what the operator says of its
//! machines, and shows what it answers. Decides nothing: the daemon does.

mod client;
mod table;

use std::{
    io::{self, Write as _},
    path::Path,
    time::SystemTime,
};

use serde_json::{Map, Value, json};

use crate::{
    config::{Machines, Order},
    model::{Architecture, Mac, MachineState, Timestamp},
};
use client::Client;

/// Carries out the order over this socket, and prints what the daemon answers.
/// What is refused of one machine does not stop the others.
///
/// # Errors
///
/// That no daemon answers, or what it refused, the number of it if it is several.
pub fn run(machines: &Machines, socket: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::new(socket)?;
        match calls(&machines.order) {
            Calls::List(params) => {
                let answer = client.call("Machine.List", params).await?;
                let now = Timestamp::from(SystemTime::now());
                print(&if machines.json { written(&answer) } else { table::write(&answer, now)? })
            }
            Calls::Conflicts => {
                let answer = client.call("Machine.Conflicts", json!({})).await?;
                print(&if machines.json { written(&answer) } else { table::conflicts(&answer)? })
            }
            Calls::Each(method, several) => each(&client, (method, several), machines.json).await,
        }
    })
}

/// What is to be asked.
enum Calls {
    List(Value),
    Conflicts,
    /// One call for each machine.
    Each(&'static str, Vec<(Mac, Value)>),
}

fn calls(order: &Order) -> Calls {
    let each = |method, macs: &[Mac], more: Value| {
        let params = |mac: &Mac| {
            let mut params = more.clone();
            params["MAC"] = json!(mac);
            (*mac, params)
        };
        Calls::Each(method, macs.iter().map(params).collect())
    };
    match order {
        Order::List { state, labels, architecture } => Calls::List(json!({
            "State": state.map(MachineState::name),
            "Labels": labels,
            "Arch": architecture.map(Architecture::name),
        })),
        Order::Label(macs, labels) => {
            let labels: Map<String, Value> =
                labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            each("Machine.Label", macs, json!({"Labels": labels}))
        }
        Order::SetAside(macs, reason) => each("Machine.SetAside", macs, json!({"Reason": reason})),
        Order::Free(macs) => each("Machine.Free", macs, json!({})),
        Order::Forget(macs) => each("Machine.Forget", macs, json!({})),
        Order::Split(macs) => each("Machine.Split", macs, json!({})),
        Order::Join(mac, cards) => {
            let params = |card: &Mac| (*mac, json!({"MAC": mac, "Card": card}));
            Calls::Each("Machine.Join", cards.iter().map(params).collect())
        }
        Order::Conflicts => Calls::Conflicts,
    }
}

async fn each(
    client: &Client,
    (method, calls): (&str, Vec<(Mac, Value)>),
    json: bool,
) -> anyhow::Result<()> {
    let (all, mut refused) = (calls.len(), 0);
    for (mac, params) in calls {
        match client.call(method, params).await {
            Ok(answer) if json => print(&written(&answer))?,
            Ok(answer) => print(&said(mac, &answer))?,
            // One that stands alone is the error of the whole.
            Err(client::Failure::Refused(message)) if all > 1 => {
                refused += 1;
                eprintln!("error: {message}");
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    anyhow::ensure!(refused == 0, "{refused} of {all} machines were refused");
    Ok(())
}

/// What has become of one machine, in a line.
fn said(mac: Mac, answer: &Value) -> String {
    let machine = &answer["Machine"];
    let state = machine["state"].as_str().unwrap_or("forgotten");
    let labels = table::labels(&machine["labels"]);
    let mac = machine["mac"].as_str().map_or_else(|| mac.to_string(), str::to_owned);
    // The cards of a machine that has several.
    let cards = table::cards(&machine["macs"]).map(|cards| format!("  {cards}"));
    let labels = Some(labels).filter(|labels| !labels.is_empty());
    let labels = labels.map(|labels| format!("  {labels}"));
    let [cards, labels] = [cards, labels].map(Option::unwrap_or_default);
    format!("{mac}  {state}{cards}{labels}\n")
}

fn written(answer: &Value) -> String {
    format!("{answer}\n")
}

/// To a reader that has read enough, nothing more is said.
fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    #[test]
    fn every_order_is_a_call_for_each_of_its_machines() {
        let label = |value: Option<&str>| ("a".to_owned(), value.map(str::to_owned));
        let reason = Some("broken".to_owned());
        let mac = MAC.to_string();
        for (order, method, params) in [
            (
                Order::Label(vec![MAC; 2], vec![label(Some("1"))]),
                "Machine.Label",
                json!({"MAC": mac, "Labels": {"a": "1"}}),
            ),
            (
                Order::Label(vec![MAC; 2], vec![label(None)]),
                "Machine.Label",
                json!({"MAC": mac, "Labels": {"a": null}}),
            ),
            (
                Order::SetAside(vec![MAC; 2], reason),
                "Machine.SetAside",
                json!({"MAC": mac, "Reason": "broken"}),
            ),
            (Order::Free(vec![MAC; 2]), "Machine.Free", json!({"MAC": mac})),
            (Order::Forget(vec![MAC; 2]), "Machine.Forget", json!({"MAC": mac})),
            (Order::Split(vec![MAC; 2]), "Machine.Split", json!({"MAC": mac})),
            (Order::Join(MAC, vec![MAC; 2]), "Machine.Join", json!({"MAC": mac, "Card": mac})),
        ] {
            let Calls::Each(name, calls) = calls(&order) else { panic!("{order:?} is no list") };
            assert_eq!((name, calls), (method, vec![(MAC, params.clone()), (MAC, params)]));
        }
    }

    #[test]
    fn what_has_become_of_a_machine_is_a_line() {
        let labelled = json!({"Machine": {"state": "held", "labels": {"b": "2", "a": "1"}}});
        assert_eq!(said(MAC, &labelled), "02:00:00:00:00:01  held  a=1,b=2\n");
        let two = json!({"Machine": {
            "mac": MAC, "macs": [MAC, "02:00:00:00:00:02"], "state": "held", "labels": {},
        }});
        assert_eq!(said(MAC, &two), "02:00:00:00:00:01  held  +02:00:00:00:00:02\n");
        assert_eq!(said(MAC, &json!({"MAC": MAC})), "02:00:00:00:00:01  forgotten\n");
    }
}
