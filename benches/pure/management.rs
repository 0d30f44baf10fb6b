//! The plugin's calls without their socket.

use divan::{Bencher, black_box};
use remoteboot::spi::measured::{described, is_provision};
use serde_json::json;

use crate::world::{NOW, group, state};

#[divan::bench(sample_size = 100)]
fn parse_a_provision(bencher: Bencher) {
    let spec = json!({
        "Properties": {
            "Kernel": "vmlinuz",
            "Initrd": ["initrd.img"],
            "CmdLine": "console=ttyS0 ip={{ ip }} hostname={{ hostname }}",
            "MAC": "52:54:00:77:00:01",
            "Address": "10.24.0.9",
        },
        "Tags": {"infrakit.group": "workers", "infrakit.config_sha": "dn2avb7jf5q2u33vkwnlrbjyugvzuoyz"},
        "Init": "#!/bin/sh\necho hello\n",
        "LogicalID": "10.24.0.9",
        "Attachments": null,
    });
    let params = json!([{"Type": "", "Spec": spec}]);
    let call = json!({"jsonrpc": "2.0", "method": "Instance.Provision", "params": params, "id": 5577006791947779410u64});
    let body = call.to_string();
    bencher.bench(|| assert!(is_provision(black_box(body.as_bytes()))));
}

/// The instances of one group of ten.
#[divan::bench(args = [1000, 100_000], sample_count = 20)]
fn describe_a_group(bencher: Bencher, machines: u32) {
    let state = state(machines);
    let tags = group(3);
    bencher
        .counter(divan::counter::ItemsCount::new(machines / 10))
        .bench_local(|| described(black_box(state), &tags, NOW).expect("JSON"));
}
