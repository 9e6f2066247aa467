//! What is done to the host that has the VIP, and what makes it whole again.

use super::system::System;
use rustix::process::Signal;

type Deed = fn(&mut dyn System, usize);

pub struct Fault {
    pub name: &'static str,
    pub two_paths: bool,
    pub strike: Deed,
    pub back: Deed,
}

const NOTHING: Deed = |_, _| ();

pub const FAULTS: [Fault; 8] = [
    Fault {
        name: "host cut off",
        two_paths: false,
        strike: |system, host| system.net().cut(host),
        back: |system, _| system.net().mend(),
    },
    Fault { name: "host powered off", two_paths: false, strike: power_off, back: power_on },
    Fault {
        name: "nginx killed",
        two_paths: false,
        strike: |system, host| system.nginx(host).kill(),
        back: |system, host| system.nginx(host).start(),
    },
    Fault {
        name: "planned stop (SIGTERM)",
        two_paths: false,
        strike: |system, host| system.stop(host),
        back: |system, host| system.start(host),
    },
    Fault {
        name: "restart for an upgrade",
        two_paths: false,
        strike: |system, host| system.restart(host),
        back: NOTHING,
    },
    Fault {
        name: "daemon stopped (SIGSTOP)",
        two_paths: false,
        strike: |system, host| system.signal(host, Signal::STOP),
        back: |system, host| system.signal(host, Signal::CONT),
    },
    Fault {
        name: "daemon killed (SIGKILL)",
        two_paths: false,
        strike: |system, host| system.kill(host),
        back: |system, host| system.start(host),
    },
    Fault {
        name: "link down, a second path",
        two_paths: true,
        strike: |system, host| system.net().set_carrier(host, false),
        back: |system, host| system.net().set_carrier(host, true),
    },
];

/// Nobody hears its last words, and its kernel answers nobody.
fn power_off(system: &mut dyn System, host: usize) {
    system.net().cut(host);
    system.net().ip(host, "link set eth0 down");
    system.kill(host);
    system.nginx(host).kill();
}

fn power_on(system: &mut dyn System, host: usize) {
    system.net().ip(host, "address flush dev eth0 to 10.0.0.100");
    system.net().ip(host, "link set eth0 up");
    system.net().mend();
    system.nginx(host).start();
    system.start(host);
}
