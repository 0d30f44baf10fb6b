//! The servers of files and scripts, and what they have to serve: a hundred machines
//! that have an address and an instance, one that wrk asks for, and one beside the server.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use remoteboot::{
    model::{
        Asset, BootMode, Change, Decision, Image, Instance, InstanceId, Lease, LeaseState, Mac,
        Progress, Secrets, Source, Tags, Timestamp, Token,
    },
    store::Store,
};

use crate::{
    application,
    lab::{ADAPTER, CLIENT, Lab, SERVER},
    machine,
    server::{Kind, POOL, Server, daemon},
};

/// So many machines load at a time, at most.
pub(crate) const LOADING: u32 = 100;

/// The machine whose address wrk asks from.
pub(crate) const ASKING: u32 = LOADING;

/// The machine whose address is on the server's own computer.
pub(crate) const BESIDE: u32 = LOADING + 1;

/// The address of that one.
pub(crate) const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 16, 0, 3);

/// What they boot.
pub(crate) const INITRD: &str = "initrd.img";

/// What an operator has in a command line.
const CMDLINE: &str =
    "console=ttyS0,115200 ip=dhcp ds=nocloud-net;s={{ nocloud }} rb.host={{ hostname }}";

/// The address of a machine.
pub(crate) fn address(number: u32) -> Ipv4Addr {
    match number {
        ASKING => CLIENT,
        BESIDE => LOCAL,
        _ => Ipv4Addr::from_bits(POOL.to_bits() + number),
    }
}

/// The addresses of the machines, on both sides of the wire.
pub(crate) fn give_addresses(lab: &Lab) {
    for number in 0..LOADING {
        let address = format!("{}/12", address(number));
        let added = Command::new("ip").args(["addr", "add", &address, "dev", "load"]).status();
        assert!(added.expect("ip starts").success(), "{address}");
    }
    let mut beside = lab.command(Path::new("ip"));
    beside.args(["addr", "add", &format!("{LOCAL}/32"), "dev", "lo"]);
    assert!(beside.status().expect("ip starts").success());
}

/// Where a machine's script is, at every server.
pub(crate) fn script(number: u32) -> String {
    format!("/ipxe/{}.ipxe", hyphenated(number))
}

/// A machine's MAC as the URL has it.
pub(crate) fn hyphenated(number: u32) -> String {
    machine::mac(number).replace(':', "-")
}

/// Where the initrd of a machine is.
pub(crate) fn initrd(kind: Kind, number: u32) -> String {
    match kind {
        Kind::Ours | Kind::Before => {
            format!("/boot/{}/1/{INITRD}", secrets(number).files.digits())
        }
        _ => format!("/{INITRD}"),
    }
}

fn secrets(number: u32) -> Secrets {
    let secret = |place: u128| Token((u128::from(number) * 3 + place) << 64);
    Secrets { files: secret(0), init: secret(1), report: secret(2) }
}

/// Starts one over the files in `files`, and waits until it answers for a script.
pub(crate) fn start(lab: &Lab, kind: Kind, files: &Path) -> Server {
    let folder = lab.folder.path().join(format!("http-{kind:?}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("made");
    let command = match kind {
        Kind::Ours | Kind::Before => ours(lab, kind, files, &folder),
        Kind::BareHttp => {
            let program = std::env::current_exe().expect("this program has a path");
            let mut command = lab.command(&program);
            command.args(["--bench", "--bare-http"]).arg(files);
            command
        }
        _ => nginx(lab, kind, files, &folder),
    };
    let path = script(ASKING);
    Server::start_with(kind, command, folder, || crate::http_load::is_answered(&path))
}

fn ours(lab: &Lab, kind: Kind, files: &Path, folder: &Path) -> Command {
    fill(&folder.join("state"));
    let mut command = lab.command(&daemon(kind));
    command.arg("--state-dir").arg(folder.join("state"));
    command.arg("--plugins").arg(folder.join("plugins")).arg("--images").arg(files);
    command.args(["--adapter", ADAPTER, "--address-dhcp", &SERVER.to_string()]);
    command.args(["--enable-dhcp", "--dhcp-watch", "0", "--enable-http", "--log", "1"]);
    command.args(["--start-address", &POOL.to_string(), "--lease-count", "1024"]);
    command
}

/// A store of the daemon's in which each machine has a lease and an instance.
fn fill(directory: &Path) {
    let store = Store::open(directory, None).expect("a new store");
    let mut last = None;
    let mut changes = Vec::new();
    for number in 0..=BESIDE {
        last = Some(InstanceId::next(last, Timestamp(1)));
        let id = last.expect("just made");
        changes.push(Change::Instance(instance(id, number)));
        let (mac, state, expires) =
            (Mac::new(machine::bytes(number)), LeaseState::Bound, Timestamp(1 << 42));
        changes.push(Change::Lease(Lease { address: address(number), mac, state, expires }));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let decision = Decision { answer: (), changes };
    runtime.block_on(store.decide(|_| decision)).expect("written");
    store.close();
}

fn instance(id: InstanceId, number: u32) -> Instance {
    let file = |name: &str| {
        let source = Source::File(name.parse().expect("a name"));
        Asset { source, checksum: None }
    };
    let cmdline = CMDLINE.to_owned();
    Instance {
        id,
        logical_id: None,
        tags: Tags::new(),
        init: "#cloud-config\n".to_owned().into(),
        mac: Mac::new(machine::bytes(number)),
        address: None,
        hostname: format!("node-{number}").parse().expect("a name"),
        index: None,
        boot: BootMode::Always,
        image: Some(Image { kernel: file("vmlinuz"), initrds: vec![file(INITRD)], cmdline }.into()),
        secrets: secrets(number),
        provisioned_at: Timestamp(1),
        progress: Progress::new(Timestamp(1)),
    }
}

/// In a process namespace of its own, so that its workers end with it.
fn nginx(lab: &Lab, kind: Kind, files: &Path, folder: &Path) -> Command {
    fs::write(folder.join("nginx.conf"), configuration(kind, files, folder)).expect("written");
    let mut command = lab.command(Path::new("unshare"));
    command.args(["--pid", "--fork", "--kill-child", "--", "sh", "-c"]);
    let program = std::env::current_exe().expect("this program has a path");
    let application = match kind {
        Kind::NginxProxy => format!(
            "{} --bench --application {} {} & ",
            program.display(),
            folder.join("application").display(),
            files.join("template").display()
        ),
        _ => String::new(),
    };
    let nginx: PathBuf = lab.program("usr/sbin/nginx");
    let (nginx, folder) = (nginx.display(), folder.display());
    command.arg(format!("{application}exec {nginx} -p {folder} -c {folder}/nginx.conf"));
    command
}

fn configuration(kind: Kind, files: &Path, folder: &Path) -> String {
    let (files, folder) = (files.display(), folder.display());
    let scripts = match kind {
        Kind::NginxProxy => {
            "location /ipxe/ {
                proxy_pass http://application; proxy_http_version 1.1;
                proxy_set_header Connection \"\";
            }"
        }
        // Of a file above one packet sendfile makes two: the second waits for the cork.
        _ => "location /ipxe/ { sendfile off; }",
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
        .concat();
    format!(
        "user root; worker_processes auto; daemon off;
pid {folder}/pid; error_log {folder}/errors error;
events {{ worker_connections 4096; }}
http {{
    {temporary}
    access_log off;
    default_type application/octet-stream;
    types {{ text/plain ipxe; }}
    sendfile on; tcp_nopush on; tcp_nodelay on;
    open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;
    keepalive_requests 100000000;
    upstream application {{
        server unix:{folder}/application; keepalive 64; keepalive_requests 100000000;
    }}
    server {{
        listen {SERVER}:80 reuseport;
        root {files};
        {scripts}
    }}
}}
"
    )
}

/// What the application behind nginx makes scripts of.
pub(crate) fn template(script: &str) -> String {
    let hyphenated = script.replace(&hyphenated(ASKING), application::MAC);
    hyphenated.replace(&machine::mac(ASKING), application::MAC)
}
