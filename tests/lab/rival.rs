//! Three hosts of the same kind with keepalived instead of haclusterd, set up as people do it.

use crate::net::Net;
use crate::nginx::{Nginx, Options};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{self, File, Permissions};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Child;

pub const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
const PRIORITIES: [u8; 3] = [150, 100, 90];

/// By what the script knows whether nginx is well.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    /// As `killall -0 nginx`, but of this host's nginx alone: the lab's hosts share their process ids.
    Process,
    Http,
}

pub struct Rival {
    pub net: Net,
    pub hosts: Vec<Host>,
    _dir: tempfile::TempDir,
}

pub struct Host {
    pub nginx: Nginx,
    keepalived: Keepalived,
}

pub struct Keepalived {
    net: Net,
    host: usize,
    dir: PathBuf,
    child: Option<Child>,
}

impl Rival {
    /// Does not wait for one of them to become the master.
    pub fn start(check: Check, options: Options) -> Rival {
        let dir = tempfile::tempdir().unwrap();
        let net = Net::new(PRIORITIES.len());
        let start = |host| Host::start(net, dir.path().join(format!("lb{host}")), host, check, options);
        let hosts = (1..=PRIORITIES.len()).map(start).collect();
        Rival { net, hosts, _dir: dir }
    }

    pub fn host(&mut self, host: usize) -> &mut Host {
        &mut self.hosts[host - 1]
    }
}

/// Whatever a case fails by, their own words help.
impl Drop for Rival {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.hosts.iter().for_each(|host| println!("{}", host.keepalived.log()));
        }
        self.net.end();
    }
}

impl Host {
    fn start(net: Net, dir: PathBuf, host: usize, check: Check, options: Options) -> Host {
        let mut nginx = Nginx::new(net, dir.join("nginx"), host);
        nginx.set(options);
        let script = check.write(dir.join("check"), &nginx);
        let keepalived = Keepalived::start(net, dir, host, &config(host, &script));
        Host { nginx, keepalived }
    }

    pub fn kill_keepalived(&mut self) {
        self.keepalived.kill();
    }
}

impl Keepalived {
    pub fn start(net: Net, dir: PathBuf, host: usize, config: &str) -> Keepalived {
        let mut keepalived = Keepalived::new(net, dir, host, config);
        keepalived.start_again();
        keepalived
    }

    /// It does not run yet.
    pub fn new(net: Net, dir: PathBuf, host: usize, config: &str) -> Keepalived {
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("keepalived.conf"), config).unwrap();
        Keepalived { net, host, dir, child: None }
    }

    pub fn start_again(&mut self) {
        self.child = Some(keepalived(self.net, &self.dir, self.host));
    }

    /// As an administrator would.
    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        child.wait().unwrap();
    }

    pub fn reload(&self, old: &str, new: &str) {
        let file = self.dir.join("keepalived.conf");
        fs::write(&file, fs::read_to_string(&file).unwrap().replace(old, new)).unwrap();
        rustix::process::kill_process(self.pid(), Signal::HUP).unwrap();
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    /// To both of its processes.
    pub fn signal(&self, signal: Signal) {
        kill_process_group(self.pid(), signal).unwrap();
    }

    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // It may be dead already; its child and it are one group.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        child.wait().unwrap();
        // Its own child stays a zombie, which the next run would take for one that runs.
        for file in ["pid", "vrrp.pid"] {
            let _ = fs::remove_file(self.dir.join(file));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Check {
    /// As a program; where it is.
    pub fn write(self, script: PathBuf, nginx: &Nginx) -> PathBuf {
        fs::write(&script, self.script(&nginx.pid_file())).unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        script
    }

    fn script(self, pid_file: &Path) -> String {
        match self {
            Check::Process => format!("#!/bin/sh\nkill -0 \"$(cat {})\"\n", pid_file.display()),
            Check::Http => "#!/bin/sh\nexec curl -sf -m 1 -o /dev/null http://127.0.0.1/\n".to_owned(),
        }
    }
}

fn config(host: usize, script: &Path) -> String {
    format!(
        "global_defs {{\n router_id lb{host}\n script_user root\n}}\n\
         vrrp_script nginx {{\n script \"{}\"\n interval 2\n fall 3\n rise 1\n weight -60\n}}\n\
         vrrp_instance web {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority {}\n advert_int 1\n \
         virtual_ipaddress {{\n {VIP}/24\n }}\n track_script {{\n nginx\n }}\n}}\n",
        script.display(),
        PRIORITIES[host - 1]
    )
}

fn keepalived(net: Net, dir: &Path, host: usize) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = net.command(host, "/usr/sbin/keepalived");
    command
        .args(["--dont-fork", "--log-console", "--no-syslog", "--log-detail", "--vrrp"])
        .arg("-f")
        .arg(dir.join("keepalived.conf"))
        .arg("-p")
        .arg(dir.join("pid"))
        .arg("-r")
        .arg(dir.join("vrrp.pid"));
    command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0).spawn().unwrap()
}
