#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

const PATIENCE: Duration = Duration::from_secs(20);
const DEBIAN: &str = include_str!("../../../../tests/fixtures/nginx/debian.version");
const OPENRESTY: &str = include_str!("../../../../tests/fixtures/nginx/openresty.version");

fn given(arguments: &[&str]) -> Given {
    Given::of(&command(arguments))
}

fn command(arguments: &[&str]) -> Vec<String> {
    ["/usr/sbin/nginx"].iter().chain(arguments).map(ToString::to_string).collect()
}

fn paths(paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(PathBuf::from).collect()
}

/// All of one kind.
fn logs(errors: bool, files: &[&str]) -> Vec<Log> {
    paths(files).into_iter().map(|path| Log { path, errors }).collect()
}

fn ask(address: &str, tls: bool, host: &str) -> Ask {
    let host = Some(host.to_owned()).filter(|host| !host.is_empty());
    Ask { address: address.parse().unwrap(), tls, host }
}

/// A configuration of one file.
fn of(arguments: &[&str], text: &str) -> Found {
    let dump = format!("# configuration file /etc/nginx/nginx.conf:\n{text}");
    read(&given(arguments), DEBIAN, &dump).unwrap()
}

#[test]
fn as_debian_installs_it() {
    let dump = include_str!("../../../../tests/fixtures/nginx/debian.dump");
    let expected = Found {
        pid_file: "/run/nginx.pid".into(),
        logs: [logs(true, &["/var/log/nginx/error.log"]), logs(false, &["/var/log/nginx/access.log"])]
            .concat(),
        log_dirs: paths(&["/var/log/nginx"]),
        worker_connections: 768,
        asks: vec![ask("127.0.0.1:80", false, ""), ask("[::1]:80", false, "")],
    };
    assert_eq!(read(&given(&[]), DEBIAN, dump), Ok(expected));
}

#[test]
fn several_sites() {
    let dump = include_str!("../../../../tests/fixtures/nginx/sites.dump");
    let expected = Found {
        pid_file: "/run/nginx.pid".into(),
        logs: [
            logs(true, &["/usr/share/nginx/logs/error.log"]),
            logs(false, &["/var/log/nginx/access.log"]),
            logs(true, &["/var/log/nginx/shop/error.log"]),
            logs(false, &["/var/log/php/status.log"]),
            logs(true, &["/var/log/nginx/stream.log"]),
        ]
        .concat(),
        log_dirs: paths(&["/usr/share/nginx/logs", "/var/log/nginx", "/var/log/nginx/shop", "/var/log/php"]),
        worker_connections: 4096,
        asks: vec![
            ask("127.0.0.1:80", false, "shop.example"),
            ask("127.0.0.1:443", true, "shop.example"),
            ask("192.0.2.80:8443", true, "shop.example"),
        ],
    };
    assert_eq!(read(&given(&[]), DEBIAN, dump), Ok(expected));
}

#[test]
fn openresty_with_lua() {
    let dump = include_str!("../../../../tests/fixtures/nginx/openresty.dump");
    let expected = Found {
        pid_file: "/usr/local/openresty/nginx/logs/nginx.pid".into(),
        logs: [
            logs(false, &["/usr/local/openresty/nginx/logs/site.log"]),
            logs(true, &["/usr/local/openresty/nginx/logs/error.log"]),
            logs(false, &["/usr/local/openresty/nginx/logs/access.log"]),
        ]
        .concat(),
        log_dirs: paths(&["/usr/local/openresty/nginx/logs"]),
        worker_connections: 512,
        asks: vec![ask("127.0.0.1:8080", false, ""), ask("127.0.0.2:8081", false, "")],
    };
    assert_eq!(read(&given(&[]), OPENRESTY, dump), Ok(expected));
}

#[test]
fn the_command_line_says_the_rest() {
    let found = of(&["-p", "/p", "-g", "pid run/x.pid; daemon off;"], "error_log e; events {}");
    assert_eq!(found.pid_file, Path::new("/p/run/x.pid"));
    assert_eq!(found.logs, logs(true, &["/p/e"]));
    assert_eq!(of(&["-g", "error_log /g/e;"], "").logs, logs(true, &["/g/e"]));
    assert_eq!(of(&["-e", "/e/e"], "").logs, logs(true, &["/e/e"]));
    assert_eq!(of(&[], "").logs, []); // Debian's nginx was built to log to stderr
}

#[test]
fn only_servers_of_http_are_asked() {
    let text = "stream { server { listen 1; } } http { server { } upstream u { server 192.0.2.1; } }";
    assert_eq!(of(&[], text).asks, [ask("127.0.0.1:80", false, "")]);
}

#[tokio::test]
async fn a_real_nginx() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    // Taken already, so that nginx does not listen there while it checks.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    fs::create_dir(root.join("sites")).unwrap();
    let site = format!("server {{ listen {address}; server_name a.example; access_log $host.log; }}");
    fs::write(root.join("sites/a.conf"), site).unwrap();
    let text = "error_log error.log; events { worker_connections 99; } http { access_log 'a b.log'; include sites/*; }";
    let file = root.join("nginx.conf");
    fs::write(&file, text).unwrap();
    let command = command(&["-p", root.to_str().unwrap(), "-c", file.to_str().unwrap(), "-g", "pid n.pid;"]);
    let expected = Found {
        pid_file: root.join("n.pid"),
        logs: vec![
            Log { path: root.join("error.log"), errors: true },
            Log { path: root.join("a b.log"), errors: false },
        ],
        log_dirs: vec![root.to_owned()],
        worker_connections: 99,
        asks: vec![Ask { address, tls: false, host: Some("a.example".into()) }],
    };
    assert_eq!(find(&command, PATIENCE).await, Ok(expected));

    fs::write(&file, "events {} http { nonsense; }").unwrap();
    let error = find(&command, PATIENCE).await.unwrap_err();
    assert!(error.contains("nginx -T fails: unknown directive \"nonsense\""), "{error}");
}

fn piece() -> impl Strategy<Value = String> {
    let known = [
        "{",
        "}",
        ";",
        " ",
        "\n",
        "'",
        "\"",
        "\\",
        "#",
        "$",
        "é",
        "include ",
        "*",
        "?",
        "[",
        "]",
        "a",
        "/",
        "http {",
        "server {",
        "listen ",
        "80",
        "[::]:",
        "error_log ",
        "access_log ",
        "x_by_lua_block {",
        "--",
        "[[",
        "[=[",
        "server_name ",
        "\n# configuration file /n/a:\n",
        "\n# configuration file /n/b*:\n",
        "pid ",
        "events {",
    ];
    prop_oneof![9 => proptest::sample::select(known.to_vec()).prop_map(String::from), 1 => any::<String>()]
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(piece(), 0..200).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(version in text(), options in proptest::collection::vec(text(), 0..3), dump in text()) {
        let version = format!("configure arguments: {version}");
        let dump = format!("# configuration file /n/nginx.conf:\n{dump}");
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let _ = read(&given(&options), &version, &dump);
        let _ = read(&Given::default(), DEBIAN, &dump);
    }

    #[test]
    fn nor_do_options(options in proptest::collection::vec("-?[cegps]?.*", 0..6)) {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        given(&options);
    }
}
