//! Runs nginx for what it prints.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

/// Where nginx is besides PATH, which for a daemon is short.
const PLACES: [&str; 4] =
    ["/usr/sbin", "/usr/local/sbin", "/usr/local/nginx/sbin", "/usr/local/openresty/nginx/sbin"];
/// Of what nginx prints.
const LIMIT: u64 = 16 << 20;
/// Characters of an error.
const ERROR: usize = 400;

struct Printed {
    out: String,
    err: String,
}

/// What `-V` and `-T` print.
pub(super) async fn ask(command: &[String], patience: Duration) -> Result<(String, String), String> {
    let (name, arguments) = command.split_first().ok_or("the command of nginx is empty: name the program")?;
    let program = look_up(name, env::var_os("PATH"))?;
    let both = async {
        let version = run(&program, arguments, "-V").await?;
        let dump = run(&program, arguments, "-T").await?;
        Ok((version.err + &version.out, dump.out))
    };
    timeout(patience, both).await.unwrap_or_else(|_| {
        let patience = humantime::format_duration(patience);
        Err(format!("{name} -T took longer than {patience}: does it wait for a name server, or for a disk?"))
    })
}

fn look_up(name: &str, path: Option<OsString>) -> Result<PathBuf, String> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let path = path.unwrap_or_default();
    let places = env::split_paths(&path).chain(PLACES.iter().map(PathBuf::from));
    let found = places.map(|place| place.join(name)).find(|file| is_program(file));
    found.ok_or_else(|| format!("{name} is neither in PATH nor in {}: give its full path", PLACES.join(", ")))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

async fn run(program: &Path, arguments: &[String], flag: &str) -> Result<Printed, String> {
    let name = program.display();
    let mut command = Command::new(program);
    command.args(arguments).arg(flag).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot run {name}: {error}"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = async { child.wait().await.map_err(|error| error.to_string()) };
    let ran = tokio::try_join!(all(out), all(err), ended);
    let (out, err, status) = ran.map_err(|error| format!("{name} {flag}: {error}"))?;
    if status.success() {
        return Ok(Printed { out, err });
    }
    let words =
        last_words(&err).map_or_else(|| status.to_string(), |line| line.chars().take(ERROR).collect());
    Err(format!("{name} {flag} fails: {words}"))
}

async fn all(pipe: Option<impl AsyncRead + Unpin>) -> Result<String, String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(LIMIT + 1).read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
    }
    if bytes.len() as u64 > LIMIT {
        return Err(format!("prints more than {} MiB", LIMIT >> 20));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What stopped nginx, without the time and the process; it goes on to say what follows from that.
fn last_words(err: &str) -> Option<&str> {
    if let Some((_, fault)) = err.lines().find_map(|line| line.split_once("[emerg] ")) {
        let after = fault.trim_start_matches(|c: char| c.is_ascii_digit() || c == '#');
        return Some(after.strip_prefix(": ").unwrap_or(fault));
    }
    err.lines().rev().map(str::trim).find(|line| !line.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn shell(script: &str, patience: Duration) -> Result<(String, String), String> {
        // The flag becomes $0.
        ask(&["sh".into(), "-c".into(), script.into()], patience).await
    }

    #[tokio::test]
    async fn the_version_is_on_either_stream_and_the_dump_on_one() {
        let printed = shell("echo out $0; echo err $0 >&2", PATIENCE).await;
        assert_eq!(printed.unwrap(), ("err -V\nout -V\n".into(), "out -T\n".into()));
    }

    #[tokio::test]
    async fn a_failure_gives_the_first_fault() {
        let script = "echo 'nginx: [warn] a' >&2; echo 'nginx: [emerg] b in /c:1' >&2; echo '[emerg] c' >&2; echo test failed >&2; exit 1";
        let error = shell(script, PATIENCE).await.unwrap_err();
        assert!(error.ends_with("sh -V fails: b in /c:1"), "{error}");
        let error = shell("exit 3", PATIENCE).await.unwrap_err();
        assert!(error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn last_words_are_the_fault_or_the_last_line() {
        assert_eq!(
            last_words("2026/11/25 13:57:12 [emerg] 209#209: 2 x in /c:1\nend\n"),
            Some("2 x in /c:1")
        );
        assert_eq!(last_words("nginx: [emerg] 80 x\n"), Some("80 x"));
        assert_eq!(last_words("a\nb\n \n"), Some("b"));
        assert_eq!(last_words(""), None);
    }

    #[tokio::test]
    async fn it_has_neither_all_time_nor_all_memory() {
        let error = shell("exec sleep 60", Duration::from_millis(50)).await.unwrap_err();
        assert!(error.contains("took longer than 50ms"), "{error}");
        let error = shell("exec cat /dev/zero", PATIENCE).await.unwrap_err();
        assert!(error.contains("more than 16 MiB"), "{error}");
    }

    #[tokio::test]
    async fn a_program_is_looked_for() {
        assert!(ask(&[], PATIENCE).await.unwrap_err().contains("is empty"));
        let error = ask(&["/nowhere/nginx".into()], PATIENCE).await.unwrap_err();
        assert!(error.contains("cannot run /nowhere/nginx"), "{error}");
        assert!(look_up("no-such-program", None).unwrap_err().contains("give its full path"));
        assert_eq!(look_up("sh", Some("/nowhere:/bin".into())).unwrap(), Path::new("/bin/sh"));
    }
}
