use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn sh(script: &str) -> Order {
    Order::new(&["/bin/sh", "-c", script].map(str::to_owned), None, SECOND * 10)
}

#[test]
fn what_it_says_is_bounded_and_its_first_line_is_told() {
    let End::Exited { status, said } = run(&sh("echo; echo ' first '; yes | head -c 1000000; exit 3")) else {
        panic!()
    };
    assert_eq!((ended(status).as_str(), said.as_str()), ("exit code 3", "first"));
}

#[test]
fn who_is_late_is_ended_with_all_that_it_began() {
    let began = Instant::now();
    let End::Late(straggler) =
        run(&Order { patience: SECOND / 10, ..sh("trap '' TERM; sleep 60 & sleep 61") })
    else {
        panic!()
    };
    assert!(began.elapsed() < SECOND * 5);
    straggler.end();
}

#[test]
fn who_closes_its_output_or_leaves_it_to_others_is_waited_for_and_no_longer() {
    let began = Instant::now();
    assert!(matches!(run(&sh("exec >&- 2>&-; sleep 0.2")), End::Exited { .. }));
    assert!(matches!(run(&sh("sleep 30 & exit 0")), End::Exited { .. }));
    assert!(began.elapsed() < SECOND * 9);
}

#[test]
fn it_runs_as_who_it_is_told_to_and_with_none_of_our_environment() {
    let account = Account::find("nobody").unwrap();
    let End::Exited { said, .. } =
        run(&Order { account: Some(account), ..sh("echo $(id -u) $(id -G) ${HOME-none}") })
    else {
        panic!()
    };
    assert_eq!(said, format!("{} {} none", account.uid, account.gid));
    assert!(Account::find("no-such-user").unwrap_err().contains("create it"));
    let other = Account::find_with_group("nobody:adm").unwrap();
    assert_eq!((other.uid, other.gid == account.gid), (account.uid, false));
    assert!(Account::find_with_group("nobody:no-such").unwrap_err().contains("no group no-such"));
}

#[test]
fn it_gets_its_environment_and_its_input() {
    let order = Order {
        environment: vec![("GIVEN", "word".into())],
        input: b"line".into(),
        ..sh("echo $GIVEN $(cat)")
    };
    let End::Exited { said, .. } = run(&order) else { panic!() };
    assert_eq!(said, "word line");
    let unread = Order { input: b"line".into(), listen: false, ..sh("exit 0") };
    assert!(matches!(run(&unread), End::Exited { status, said } if status.success() && said.is_empty()));
}

#[test]
fn what_is_not_there_says_so() {
    let End::NotStarted(why) = run(&Order::new(&["/nowhere/x".into()], None, SECOND)) else { panic!() };
    assert!(why.starts_with("/nowhere/x: No such file"), "{why}");
}

#[test]
fn a_program_that_others_can_change_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("check");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let shown = file.display().to_string();
    allow(&file, 0o755);
    assert_eq!(refuse_foreign(&shown, Account::ROOT), Ok(()));
    allow(&file, 0o757);
    assert!(refuse_foreign(&shown, Account::ROOT).unwrap_err().contains("chmod go-w"));
    allow(&file, 0o755);
    allow(dir.path(), 0o777);
    assert!(refuse_foreign(&shown, Account::ROOT).is_err());
    allow(dir.path(), 0o700);
    std::os::unix::fs::chown(&file, Some(12345), None).unwrap();
    assert!(refuse_foreign(&shown, Account::ROOT).is_err());
    assert_eq!(
        refuse_foreign(&shown, Account { uid: 12345, gid: 0 }),
        Ok(()),
        "it runs with its owner's rights"
    );
}
