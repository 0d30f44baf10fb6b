//! The program as a person starts it: what it prints, and how it exits.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output},
    thread,
};

use sha2::{Digest as _, Sha256};
use warp::Filter as _;

/// Runs the program in a directory, with nothing of our own environment.
fn run(directory: &Path, line: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remoteboot"));
    command.args(line).current_dir(directory).env_clear().env("HOME", directory);
    command.output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn wrong_usage_exits_with_2_and_names_the_flag_and_the_value() {
    let directory = directory();
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--adaptor=eth0"], &["--adaptor"]),
        (&["--leaseCount=0"], &["--leaseCount=0"]),
        (&["--leasecount=many"], &["--leasecount=many"]),
        (&["--startAddress=fe80::1"], &["--startAddress=fe80::1"]),
        (&["--adapter=eth9999"], &["--adapter=eth9999", "lo"]),
        (&["--enableDHCP"], &["--adapter", "--start-address", "needed"]),
        (&["--enableHTTP=perhaps"], &["--enableHTTP=perhaps"]),
        (&["kernel", "initrd"], &["2 of 3", "initrd"]),
        (&["pulliPXE", "--adapter=lo"], &["--adapter"]),
    ];
    for (line, named) in cases {
        let output = run(directory.path(), line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line:?}: {said}");
        assert!(named.iter().all(|name| said.contains(name)), "{line:?}: {said}");
    }
}

#[test]
fn help_has_every_flag_under_its_heading_and_exits_with_0() {
    let directory = directory();
    for line in [&["--help"][..], &["check", "--help"]] {
        let output = run(directory.path(), line);
        assert_eq!(output.status.code(), Some(0));
        let help = text(&output.stdout);
        let ancestral = [
            "--adapter",
            "--addressDHCP",
            "--addressHTTP",
            "--addressTFTP",
            "--dns",
            "--enableDHCP",
            "--enableHTTP",
            "--enableTFTP",
            "--gateway",
            "--iPXEPath",
            "--leaseCount",
            "--startAddress",
        ];
        for flag in ancestral {
            assert!(help.contains(flag), "{flag} is not in {help}");
        }
        for setting in remoteboot::config::Setting::all() {
            let description = setting.description();
            let name = match description.form {
                remoteboot::config::Form::Argument(placeholder) => format!("[{placeholder}]"),
                remoteboot::config::Form::Value(_) | remoteboot::config::Form::Switch => {
                    format!("--{}", description.name)
                }
            };
            assert!(help.contains(&name), "{name} is not in {help}");
            assert!(help.contains(description.heading), "{} is missing", description.heading);
        }
    }
}

#[test]
fn check_says_what_holds_and_what_is_wrong_and_writes_nothing() {
    let directory = directory();
    let output = run(directory.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("name = \"remoteboot\"  # default"));

    let line =
        ["check", "--adapter=lo", "--startAddress=127.0.0.9", "--enableDHCP", "--enableHTTP"];
    let output = run(directory.path(), &line);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains("start-address = \"127.0.0.9\"  # --startAddress"), "{shown}");
    assert!(shown.contains("address-http = \"127.0.0.1\"  # default"), "{shown}");

    fs::write(directory.path().join("r.toml"), "lease-count = 0\nlog = 3\n").expect("written");
    let output = run(directory.path(), &["check", "--config=r.toml", "nope"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("`lease-count = 0` in r.toml") && said.contains("nope"), "{said}");

    fs::write(directory.path().join("r.toml"), "log = 3\nlease-cuont = 9\n").expect("written");
    let output = run(directory.path(), &["check", "--config=r.toml"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("line 2") && said.contains("lease-cuont"), "{said}");

    let left = fs::read_dir(directory.path()).expect("there").count();
    assert_eq!(left, 1, "something was written");
}

#[test]
fn a_variable_goes_over_the_file_and_a_flag_over_both() {
    let directory = directory();
    fs::write(directory.path().join("r.toml"), "name = \"f\"\nlog = 1\nlease-time = 99\n")
        .expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_remoteboot"))
        .args(["check", "--log=5"])
        .current_dir(directory.path())
        .env_clear()
        .envs([("HOME", "/"), ("INFRAKIT_REMOTEBOOT_CONFIG", "r.toml")])
        .envs([("INFRAKIT_REMOTEBOOT_NAME", "v"), ("INFRAKIT_REMOTEBOOT_LOG", "2")])
        .output()
        .expect("the program starts");
    let shown = text(&output.stdout);
    for line in [
        "name = \"v\"  # INFRAKIT_REMOTEBOOT_NAME",
        "log = 5  # --log",
        "lease-time = 99  # r.toml",
    ] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
}

/// Serves the answers of `answers` below `/`.
fn server() -> (tokio::runtime::Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let program = warp::path!("undionly.kpxe").map(|| "a boot program");
    let moved = warp::path!("moved")
        .map(|| warp::redirect::found(warp::http::Uri::from_static("/undionly.kpxe")));
    let circle = warp::path!("circle")
        .map(|| warp::redirect::found(warp::http::Uri::from_static("/circle")));
    let page = warp::path!("page").map(|| warp::reply::html("<p>please log in</p>"));
    let disguised = warp::path!("disguised").map(|| " <!DOCTYPE html><p>please log in</p>");
    let empty = warp::path!("empty").map(|| "");
    let large = warp::path!("large").map(|| vec![0_u8; (16 << 20) + 1]);
    let efi = warp::path!("all" / String / String).and_then(
        |directory: String, name: String| async move {
            // RISC-V has no `snponly.efi` here, LoongArch has nothing.
            let is_there = match (directory.as_str(), name.as_str()) {
                ("riscv64-efi", "snponly.efi") | ("loong64-efi", _) => false,
                (_, _) => true,
            };
            if is_there { Ok(format!("{directory}/{name}")) } else { Err(warp::reject()) }
        },
    );
    let bios = warp::path!("all" / "undionly.kpxe").map(|| "bios");
    let routes =
        program.or(moved).or(circle).or(page).or(disguised).or(empty).or(large).or(bios).or(efi);
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))))
        .expect("a free port");
    let address = listener.local_addr().expect("an address");
    runtime.spawn(warp::serve(routes).incoming(listener).run());
    (runtime, address)
}

#[test]
fn a_program_is_downloaded_to_the_current_directory_and_its_digest_shown() {
    let directory = directory();
    let (_runtime, address) = server();
    let digest: String =
        Sha256::digest("a boot program").iter().map(|byte| format!("{byte:02x}")).collect();
    for (spelling, path) in [("pulliPXE", "undionly.kpxe"), ("pull-ipxe", "moved")] {
        let url = format!("--url=http://{address}/{path}");
        let output = run(directory.path(), &[spelling, &url, &format!("--sha256={digest}")]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), format!("undionly.kpxe  sha256:{digest}\n"));
        let file = directory.path().join("undionly.kpxe");
        assert_eq!(fs::read_to_string(&file).expect("there"), "a boot program");
        fs::remove_file(file).expect("removed");
    }
}

#[test]
fn what_is_no_program_leaves_what_was_there() {
    let directory = directory();
    let (_runtime, address) = server();
    let file = directory.path().join("undionly.kpxe");
    fs::write(&file, "the old one").expect("written");
    let other = "--sha256=".to_owned() + &"0".repeat(64);
    let short = raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
    let partial = raw_server(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\n\r\nonly");
    let cases = [
        (format!("http://{address}/nothing"), None, "404"),
        (format!("http://{address}/circle"), None, "302"),
        (format!("http://{address}/page"), None, "web page"),
        (format!("http://{address}/disguised"), None, "web page"),
        (format!("http://{address}/empty"), None, "is empty"),
        (format!("http://{address}/large"), None, "larger than"),
        (format!("http://{address}/undionly.kpxe"), Some(other.as_str()), "was wanted"),
        (format!("http://{address}/undionly.kpxe"), Some("--sha256=12"), "--sha256=12"),
        (format!("http://{short}/x"), None, "cannot download"),
        (format!("http://{partial}/x"), None, "206"),
        ("ftp://127.0.0.1/x".to_owned(), None, "--url=ftp://127.0.0.1/x"),
    ];
    for (url, digest, named) in cases {
        let url = format!("--url={url}");
        let line: Vec<&str> = ["pulliPXE", &url].into_iter().chain(digest).collect();
        let output = run(directory.path(), &line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line:?}: {said}");
        assert!(said.contains(named), "{line:?}: {said}");
        assert_eq!(fs::read_to_string(&file).expect("there"), "the old one", "{line:?}");
        let beside = fs::read_dir(directory.path()).expect("there").count();
        assert_eq!(beside, 1, "{line:?} left something");
    }
}

#[test]
fn all_programs_come_under_the_names_that_the_daemon_looks_for() {
    let directory = directory();
    let (_runtime, address) = server();
    let url = format!("--url=http://{address}/all/");
    let output = run(directory.path(), &["pulliPXE", "--ipxe-dir=ipxe", &url]);
    let said = text(&output.stderr);
    // The one that the server has not is named, and the others are there.
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("loong64-uefi"), "{said}");
    for (name, content) in [
        ("undionly.kpxe", "bios"),
        ("x86_64-efi/snponly.efi", "x86_64-efi/snponly.efi"),
        ("arm64-efi/snponly.efi", "arm64-efi/snponly.efi"),
        ("riscv64-efi/ipxe.efi", "riscv64-efi/ipxe.efi"),
    ] {
        let file = directory.path().join("ipxe").join(name);
        assert_eq!(fs::read_to_string(file).expect(name), content);
        assert!(text(&output.stdout).contains(name));
    }
    assert!(!directory.path().join("ipxe/loong64-efi/snponly.efi").exists());
}

#[test]
fn a_mirror_by_plain_http_needs_no_root_certificates() {
    let directory = directory();
    let (_runtime, address) = server();
    let pull = |url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_remoteboot"));
        command.args(["pulliPXE", "--url", url]).current_dir(directory.path()).env_clear();
        command.envs([("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")]);
        command.output().expect("the program starts")
    };
    let output = pull(&format!("http://{address}/undionly.kpxe"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = pull("https://127.0.0.1:1/undionly.kpxe");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("ca-certificates"), "{}", text(&output.stderr));
}

/// Answers one connection with these bytes, and hangs up.
fn raw_server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(answer);
    });
    address
}
