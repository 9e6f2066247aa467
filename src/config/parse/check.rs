//! `[[check]]`: what this node watches, a table a check.

use super::section::{Section, boolean, number, text, texts};
use super::{SECOND, absolute, ip, time, values, within};
use crate::config::check::{
    Check, Counting, Gateway, Http, Kind, Method, Nginx, Process, Programs, Restart, Script,
};
use crate::config::error::{Fault, Problems};
use crate::engine::health::Initial;
use haclusterd_proto::member::{MAX_CHECK_NAME, MAX_CHECKS};
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);
/// nginx's buffers and a few minutes of a busy log.
const MIN_FREE_BYTES: u64 = 16 << 20;
/// A rotation makes a handful of files.
const MIN_FREE_INODES: u64 = 16;
const MAX_WORDS: usize = 64;
const MAX_TEXT: usize = 1024;

type Parsed<T> = Result<T, Fault>;

pub(super) fn checks(file: &mut Section<'_>, problems: &mut Problems<'_>) -> Vec<Check> {
    if let Some(old) = file.value("nginx") {
        let remedy = "write [[check]] with kind = \"nginx\" instead";
        problems.add(old.span().start, "nginx", Fault::new("is no section any more", remedy));
    }
    let mut checks: Vec<Check> = Vec::new();
    for mut section in file.tables(problems, "check") {
        let Some(check) = check(&mut section, problems) else { continue };
        if checks.iter().any(|other| other.name == check.name) {
            let fault = Fault::new(format!("{} is used twice", check.name), "give each check its own name");
            section.complain(problems, "name", fault);
        }
        section.finish(problems);
        checks.push(check);
    }
    if checks.len() > MAX_CHECKS {
        let fault = Fault::new(format!("are {}", checks.len()), format!("a node runs at most {MAX_CHECKS}"));
        file.complain(problems, "check", fault);
    }
    checks
}

fn check(s: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<Check> {
    let word = s.demand(problems, "kind", "\"nginx\"", text(kind_word))?;
    let name = s.read(problems, "name", text(check_name)).unwrap_or_else(|| word.to_owned());
    let quick = matches!(word, "file" | "interface");
    let usual = if quick { Duration::from_millis(100) } else { SECOND };
    let span = || time(Duration::from_millis(10)..=MINUTE * 10);
    let interval = s.read(problems, "interval", span()).unwrap_or(usual);
    let timeout = s.read(problems, "timeout", span()).unwrap_or(interval.max(Duration::from_millis(100)));
    let counting = counting(s, problems, word);
    let kind = match word {
        "nginx" => nginx(s, problems).map(|nginx| Kind::Nginx(Box::new(nginx))),
        "http" => request(s, problems, true).map(Kind::Http),
        "tcp" => s.demand(problems, "address", "\"127.0.0.1:80\"", text(socket)).map(Kind::Tcp),
        "script" => script(s, problems).map(Kind::Script),
        "process" => process(s, problems).map(Kind::Process),
        "file" => s.demand(problems, "path", "\"/etc/haclusterd/weight\"", text(absolute)).map(Kind::File),
        "interface" => {
            s.demand(problems, "interface", "\"eth1\"", text(values::interface)).map(Kind::Interface)
        }
        _ => gateway(s, problems).map(Kind::Gateway),
    };
    Some(Check { name, kind: kind?, interval, timeout, counting })
}

fn kind_word(word: &str) -> Parsed<&'static str> {
    const KINDS: [&str; 8] = ["nginx", "http", "tcp", "script", "process", "file", "interface", "gateway"];
    let known = KINDS.into_iter().find(|kind| *kind == word);
    known.ok_or_else(|| {
        Fault::new(format!("{word:?} is no kind of check"), format!("write one of: {}", KINDS.join(", ")))
    })
}

fn check_name(name: &str) -> Parsed<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_. ".contains(c);
    let ok = (1..=MAX_CHECK_NAME).contains(&name.len()) && name.chars().all(legal) && name.trim() == name;
    ok.then(|| name.to_owned()).ok_or_else(|| {
        let remedy = format!("use 1 to {MAX_CHECK_NAME} letters, digits, spaces, and any of - _ .");
        Fault::new(format!("{name:?} is no name"), remedy)
    })
}

/// The defaults are keepalived's, but for what asks nginx: one lost answer is no failure.
fn counting(section: &mut Section<'_>, problems: &mut Problems<'_>, word: &str) -> Counting {
    let fall = if matches!(word, "nginx" | "http" | "tcp" | "gateway") { 2 } else { 1 };
    let (least, most, usual) = match word {
        "file" => (i32::from(i16::MIN), i32::from(i16::MAX), 1),
        "process" => (-254, 254, 0),
        _ => (-253, 253, 0),
    };
    let count = || number(|n| within(n, 1..=100).map(i32::unsigned_abs));
    Counting {
        rise: section.read(problems, "rise", count()).unwrap_or(1),
        fall: section.read(problems, "fall", count()).unwrap_or(fall),
        weight: section
            .read(problems, "weight", number(|n| within(n, least..=most)))
            .and_then(|weight| i16::try_from(weight).ok())
            .unwrap_or(usual),
        reverse: section.read(problems, "reverse", boolean).unwrap_or(false),
        initial: section.read(problems, "initial", text(initial)).unwrap_or_default(),
    }
}

fn initial(word: &str) -> Parsed<Initial> {
    match word {
        "undecided" => Ok(Initial::Undecided),
        "up" => Ok(Initial::Up),
        "down" => Ok(Initial::Down),
        _ => Err(Fault::new(format!("{word:?} is not known"), "write undecided, up or down")),
    }
}

fn nginx(s: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<Nginx> {
    let request = s.has("url").then(|| request(s, problems, false));
    let command = s.read(problems, "command", command_line);
    let restart = s.read(problems, "restart", command_line);
    let patience = s.read(problems, "restart_timeout", time(Duration::from_millis(100)..=MINUTE));
    if patience.is_some() && restart.is_none() {
        let remedy = "write restart = [\"systemctl\", \"restart\", \"nginx\"] as well";
        problems.add(
            s.place("restart_timeout"),
            "check.restart_timeout",
            Fault::new("has no restart", remedy),
        );
    }
    let timeout = patience.unwrap_or(SECOND * 5);
    Some(Nginx {
        command,
        pid_file: s.read(problems, "pid_file", text(absolute)),
        request: match request {
            Some(request) => Some(request?),
            None => None,
        },
        log_dirs: s.read(problems, "log_dirs", texts(absolute)),
        min_free_bytes: s.read(problems, "min_free", text(bytes)).unwrap_or(MIN_FREE_BYTES),
        min_free_inodes: s
            .read(problems, "min_free_inodes", number(|n| within(n, 0..=1_000_000)))
            .map_or(MIN_FREE_INODES, |n| n.unsigned_abs().into()),
        mounts: s.read(problems, "mounts", texts(absolute)).unwrap_or_default(),
        stub_status: s.read(problems, "stub_status", text(values::url)),
        restart: restart.map(|command| Restart { command, timeout }),
        certificate_warning: certificate_warning(s, problems),
    })
}

/// `demanded`: the URL is.
fn request(s: &mut Section<'_>, problems: &mut Problems<'_>, demanded: bool) -> Option<Http> {
    let url = match demanded {
        true => s.demand(problems, "url", "\"http://127.0.0.1/\"", text(values::url)),
        false => s.read(problems, "url", text(values::url)),
    };
    let status = s.read(problems, "status", text(values::status));
    let (host, body) = (s.read(problems, "host", text(host)), s.read(problems, "body", text(phrase)));
    let ca: Option<PathBuf> = s.read(problems, "ca", text(absolute));
    let certificate_warning = certificate_warning(s, problems);
    let url = url?;
    if ca.is_some() && !url.tls {
        s.complain(problems, "ca", Fault::new("needs https", "write url = \"https://…\""));
    }
    let status = status.or_else(|| values::status("200-399").ok())?;
    Some(Http { url, host, status, body, ca, certificate_warning })
}

fn certificate_warning(s: &mut Section<'_>, problems: &mut Problems<'_>) -> Duration {
    s.read(problems, "certificate_warning", time(Duration::ZERO..=DAY * 365)).unwrap_or(DAY * 14)
}

fn script(s: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<Script> {
    let user = s.read(problems, "user", text(phrase)).unwrap_or_else(|| "nobody".into());
    let command = s.demand(problems, "command", "[\"/usr/local/bin/check-app\", \"--fast\"]", command_line);
    let command = command?;
    if !command[0].starts_with('/') {
        let what = format!("{:?} is no absolute path", command[0]);
        s.complain(problems, "command", Fault::new(what, "begin the program with /"));
    }
    Some(Script { command, user })
}

fn process(s: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<Process> {
    let named = s.read(problems, "program", text(phrase));
    let called = s.read(problems, "command", command_line);
    let count = || number(|n| within(n, 0..=1_000_000).map(i32::unsigned_abs));
    let least = s.read(problems, "quorum", count()).unwrap_or(1);
    let most = s.read(problems, "quorum_max", count()).unwrap_or(u32::MAX);
    if least > most {
        let what = format!("{least} is more than quorum_max {most}");
        s.complain(problems, "quorum", Fault::new(what, "make it at most quorum_max"));
    }
    let programs = match (named, called) {
        // The kernel keeps no more of a name.
        (Some(name), None) => Programs::Named(name.chars().take(15).collect()),
        (None, Some(command)) => Programs::Called(command),
        _ => {
            let remedy =
                "write program = \"nginx\", or command = [\"/usr/sbin/nginx\", \"-g\", …], and not both";
            problems.add(
                s.place("program"),
                "check.program",
                Fault::new("does not name the process", remedy),
            );
            return None;
        }
    };
    Some(Process { programs, quorum: least..=most })
}

fn gateway(s: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<Gateway> {
    let address = s.demand(problems, "address", "\"10.0.0.1\"", text(ip));
    let method = s.read(problems, "method", text(method)).unwrap_or(Method::Arp);
    let interface = s.read(problems, "interface", text(values::interface));
    Some(Gateway { address: address?, method, interface })
}

fn method(word: &str) -> Parsed<Method> {
    match word {
        "arp" => Ok(Method::Arp),
        "icmp" => Ok(Method::Icmp),
        _ => Err(Fault::new(
            format!("{word:?} is not known"),
            "write arp (for IPv6: ndp's solicitation) or icmp",
        )),
    }
}

fn socket(text: &str) -> Parsed<std::net::SocketAddr> {
    let fault = || Fault::new(format!("{text:?} is no address with a port"), "write it as 127.0.0.1:80");
    text.parse().map_err(|_| fault())
}

fn host(text: &str) -> Parsed<String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let ok = (1..=253).contains(&text.len()) && text.bytes().all(legal);
    ok.then(|| text.to_owned())
        .ok_or_else(|| Fault::new(format!("{text:?} is no host name"), "write it as www.example.com"))
}

pub(super) fn phrase(text: &str) -> Parsed<String> {
    let ok = (1..=MAX_TEXT).contains(&text.len());
    ok.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(format!("has {} bytes", text.len()), format!("write 1 to {MAX_TEXT} bytes"))
    })
}

/// A program and its arguments: no shell takes them apart.
pub(super) fn command_line(value: &DeValue<'_>) -> Parsed<Vec<String>> {
    let words: Vec<String> = texts(|word| Ok(word.to_owned()))(value)?;
    let ok = (1..=MAX_WORDS).contains(&words.len())
        && words.iter().all(|word| word.len() <= MAX_TEXT && !word.contains('\0'))
        && !words[0].is_empty();
    ok.then_some(words).ok_or_else(|| {
        let remedy =
            "write the program and its arguments as a list: [\"/bin/x\", \"-a\"]; no shell is involved";
        Fault::new("is no command", remedy)
    })
}

/// `64MiB`, `1GiB`, `100000`.
fn bytes(text: &str) -> Parsed<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor: Option<u64> = match unit.trim() {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let size =
        factor.zip(number.parse().ok()).and_then(|(factor, number): (u64, u64)| number.checked_mul(factor));
    size.ok_or_else(|| Fault::new(format!("{text:?} is no size"), "write it as \"64MiB\" (KiB, MiB, GiB)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn parse(check: &str) -> Result<Vec<Check>, String> {
        let text = format!("[node]\nname = 'n'\nlisten = '10.0.0.1'\n[[check]]\n{check}");
        Config::parse(&text, Path::new("t.toml"))
            .map(|config| config.checks)
            .map_err(|error| error.to_string())
    }

    fn one(check: &str) -> Check {
        parse(check).unwrap().remove(0)
    }

    #[test]
    fn a_kind_is_enough_where_nothing_must_be_named() {
        let check = one("kind = 'nginx'");
        assert_eq!((check.name.as_str(), check.interval, check.timeout), ("nginx", SECOND, SECOND));
        let Kind::Nginx(nginx) = check.kind else { panic!() };
        assert_eq!((nginx.command, nginx.pid_file, nginx.restart), (None, None, None));
        assert_eq!(nginx.min_free_bytes, 16 << 20);
    }

    #[test]
    fn every_kind_is_read() {
        for (text, word) in [
            ("kind = 'http'\nurl = 'https://127.0.0.1/'\nhost = 'www.example.com'\nbody = 'ok'", "http"),
            ("kind = 'tcp'\naddress = '[::1]:80'", "tcp"),
            ("kind = 'script'\ncommand = ['/bin/true', '-x']\nuser = 'daemon'\ninitial = 'down'", "script"),
            ("kind = 'process'\nprogram = 'nginx'\nquorum = 2\nweight = -254", "process"),
            ("kind = 'file'\npath = '/etc/w'\nweight = 10000", "file"),
            ("kind = 'interface'\ninterface = 'eth1'\nreverse = true", "interface"),
            ("kind = 'gateway'\naddress = '10.0.0.254'\nmethod = 'icmp'", "gateway"),
        ] {
            assert_eq!(one(text).kind.word(), word);
        }
    }

    #[test]
    fn defaults_are_keepaliveds_but_for_what_asks_a_service() {
        let script = one("kind = 'script'\ncommand = '/bin/true'\ninterval = '2s'");
        assert_eq!((script.counting.rise, script.counting.fall, script.counting.weight), (1, 1, 0));
        assert_eq!(script.timeout, SECOND * 2, "a script has its interval's time");
        assert_eq!(one("kind = 'tcp'\naddress = '10.0.0.1:1'").counting.fall, 2);
        assert_eq!(one("kind = 'file'\npath = '/w'").counting.weight, 1);
    }

    #[test]
    fn each_mistake_says_what_would_be_right() {
        for (text, said) in [
            ("kind = 'ngnix'", "check.kind: \"ngnix\" is no kind of check; write one of: nginx, http"),
            ("", "check.kind: is missing"),
            ("kind = 'http'", "check.url: is missing"),
            ("kind = 'tcp'\naddress = 'nginx:80'", "no address with a port"),
            (
                "kind = 'tcp'\naddress = '10.0.0.1:1'\nurl = 'http://x'",
                "check.url: is no key that is known here",
            ),
            ("kind = 'script'\ncommand = ['true']", "begin the program with /"),
            ("kind = 'script'\ncommand = []", "no shell is involved"),
            ("kind = 'process'", "does not name the process"),
            ("kind = 'process'\nprogram = 'x'\nquorum = 3\nquorum_max = 2", "more than quorum_max"),
            ("kind = 'nginx'\nrestart_timeout = '3s'", "has no restart"),
            ("kind = 'nginx'\nmin_free = '64 MB'", "write it as \"64MiB\""),
            ("kind = 'http'\nurl = 'http://127.0.0.1/'\nca = '/ca.pem'", "needs https"),
            ("kind = 'script'\ncommand = ['/x']\nweight = 254", "out of range"),
            ("kind = 'nginx'\n[[check]]\nkind = 'nginx'", "nginx is used twice"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{said} is not in\n{error}");
        }
        let old = "[node]\nname = 'n'\nlisten = '10.0.0.1'\n[nginx]\n";
        let error = Config::parse(old, Path::new("t.toml")).unwrap_err().to_string();
        assert!(error.contains("t.toml:4: nginx: is no section any more; write [[check]]"), "{error}");
    }
}
