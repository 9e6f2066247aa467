use super::*;
use crate::engine::hooks::Kind;
use std::os::unix::fs::PermissionsExt;

struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    fn new() -> Case {
        Case { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A program that notes its words and then does what it is told to.
    fn program(&self, name: &str, body: &str) -> String {
        let path = self.path(name);
        let text = format!("#!/bin/sh\ncd {}\n{body}\n", self.dir.path().display());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn config(&self, more: &str) -> Config {
        let text = format!(
            "[node]\nname = 'lb1'\nlisten = '10.0.0.1'\ninterface = 'eth0'\n[[vip]]\nname = 'web'\naddresses = ['10.0.0.9/24']\n{more}"
        );
        Config::parse(&text, Path::new("t.toml")).unwrap()
    }

    fn start(&self, more: &str) -> Hooks {
        Hooks::start(&self.config(more), &self.dir.path().join("state"))
    }

    /// Waits until the file has so many lines, and gives them.
    async fn lines(&self, count: usize) -> Vec<String> {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let text = std::fs::read_to_string(self.path("out")).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines.len() >= count {
                return lines;
            }
            assert!(Instant::now() < until, "{lines:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn changed(part: Part, epoch: u64) -> Box<Changed> {
    Box::new(Changed {
        kind: Kind::Vip,
        name: "web".into(),
        part,
        priority: 100,
        old_owner: String::new(),
        new_owner: "lb1".into(),
        epoch,
        reason: String::new(),
    })
}

#[tokio::test]
async fn programs_run_one_after_the_other_and_what_was_overtaken_is_left_out() {
    let case = Case::new();
    let slow = case.program("slow", "sleep 0.2; echo \"$@\" >> out");
    let hooks = case.start(&format!("notify_master = ['{slow}', 'm']\nnotify = ['{slow}', 'n']\n"));
    for (part, epoch) in [(Part::Backup, 1), (Part::Owner, 2), (Part::Backup, 2), (Part::Owner, 3)] {
        hooks.changed(changed(part, epoch));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    hooks.changed(changed(Part::Stop, 3));
    hooks.stop().await;
    assert_eq!(case.lines(2).await, ["n INSTANCE web BACKUP 100", "n INSTANCE web STOP 100"]);
    hooks.changed(changed(Part::Owner, 4));
    assert_eq!(case.lines(4).await[2..], ["m", "n INSTANCE web MASTER 100"], "the specific one first");
}

#[tokio::test]
async fn a_hook_is_run_until_it_succeeds_and_its_failure_is_shown() {
    let case = Case::new();
    let body =
        "read line; echo \"$HACLUSTERD_STATE $line\" >> out; [ -e well ] || { echo no rights; exit 3; }";
    let program = case.program("hook", body);
    let hooks = case.start(&format!("[[hook]]\nname = 'cloud'\ncommand = '{program}'\n"));
    hooks.changed(changed(Part::Owner, 7));
    case.lines(1).await;
    let counters = hooks.counters();
    while counters.all()[1].1 == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let warning = counters.warnings().join("; ");
    assert!(warning.starts_with("hook cloud: web: fails since 0s (1 times)"), "{warning}");
    assert!(warning.ends_with("exit code 3: no rights"), "{warning}");
    std::fs::write(case.path("well"), "").unwrap();
    let lines = case.lines(2).await;
    assert!(
        lines[1].starts_with("owner {\"schema\":1,\"hook\":\"cloud\",\"node\":\"lb1\",\"vip\":\"web\""),
        "{lines:?}"
    );
    hooks.changed(changed(Part::Stop, 7));
    hooks.stop().await;
    assert_eq!((case.lines(3).await.len(), counters.warnings().len()), (3, 0));
    assert_eq!(counters.all()[..2], [("hooks_run", 3), ("hooks_failed", 1)]);
}

#[tokio::test]
async fn what_a_hook_has_heard_it_need_not_hear_again_after_a_restart_and_what_it_may_not_have_it_does() {
    let case = Case::new();
    let program = case
        .program("hook", "echo $HACLUSTERD_STATE $HACLUSTERD_EPOCH >> out; [ ! -e hang ] || exec sleep 1");
    let more = format!("[[hook]]\nname = 'cloud'\ncommand = '{program}'\ntimeout = '10s'\n");
    let hooks = case.start(&more);
    hooks.changed(changed(Part::Owner, 7));
    case.lines(1).await;
    until_stored(&case, false).await;
    let hooks = case.start(&more);
    hooks.changed(changed(Part::Owner, 7));
    std::fs::write(case.path("hang"), "").unwrap();
    hooks.changed(changed(Part::Owner, 8));
    assert_eq!(case.lines(2).await, ["owner 7", "owner 8"], "7 was heard before");
    until_stored(&case, true).await;
    // The daemon ends here, whatever becomes of the run.
    let hooks = case.start(&more);
    hooks.changed(changed(Part::Owner, 8));
    assert_eq!(case.lines(3).await[2], "owner 8");
}

async fn until_stored(case: &Case, owed: bool) {
    let dir = case.dir.path().join("state");
    while !ledger::load(&dir).iter().any(|record| record.owed == owed) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_owner_is_told_again_at_the_interval() {
    let case = Case::new();
    let program = case.program("hook", "echo $HACLUSTERD_STATE >> out");
    let hooks = case.start(&format!("[[hook]]\nname = 'cloud'\ncommand = '{program}'\nreconcile = '1s'\n"));
    hooks.changed(changed(Part::Owner, 7));
    assert_eq!(case.lines(2).await, ["owner", "owner"]);
    hooks.changed(changed(Part::Backup, 7));
    case.lines(3).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(case.lines(3).await, ["owner", "owner", "backup"]);
}

#[tokio::test]
async fn the_fifo_has_a_reader_of_ours_that_is_started_again() {
    let case = Case::new();
    let reader = case.program("reader", "read line < $2; echo \"$1 $line\" >> out");
    let hooks = case.start(&format!(
        "[[vrrp]]\nname = 'VI_1'\nvrid = 1\naddresses = ['10.0.0.8']\n\
         [notify]\nfifo = '{}'\nfifo_script = ['{reader}', 'x']\n",
        case.path("fifo")
    ));
    hooks.changed(changed(Part::Backup, 0));
    assert_eq!(case.lines(1).await, ["x INSTANCE \"web\" BACKUP 100"]);
    hooks.changed(changed(Part::Owner, 0));
    assert_eq!(case.lines(2).await[1], "x INSTANCE \"web\" MASTER 100");
}

#[tokio::test]
async fn a_hook_that_a_reload_brings_is_told_how_things_are_and_one_that_hangs_is_shown() {
    let case = Case::new();
    let hooks = case.start("");
    hooks.changed(changed(Part::Backup, 7));
    hooks.changed(changed(Part::Owner, 8));
    let program =
        case.program("hook", "echo $HACLUSTERD_STATE >> out; trap '' TERM; sleep 1; sleep 1; sleep 60");
    let more = format!("[[hook]]\nname = 'cloud'\ncommand = '{program}'\ntimeout = '100ms'\n");
    hooks.reconfigure(&case.config(&more));
    assert_eq!(case.lines(1).await, ["owner"]);
    let counters = hooks.counters();
    while counters.warnings().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(counters.all()[0], ("hooks_run", 0), "it has not ended yet");
    assert!(counters.warnings()[0].ends_with("no end within 100ms"), "{:?}", counters.warnings());
    hooks.reconfigure(&case.config(""));
    while !counters.warnings().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
