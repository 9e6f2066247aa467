//! The same virtual router in the words of each of the programs.

use std::net::IpAddr;
use std::time::Duration;

pub const VRID: u8 = 51;

/// How adverts travel and what they look like.
#[derive(Clone, Copy)]
pub struct Way {
    pub name: &'static str,
    pub version: u8,
    pub vip: &'static str,
    pub advert: Duration,
    pub password: Option<&'static str>,
    pub ah: bool,
    pub unicast: bool,
    /// The address comes with the MAC of RFC 9568 7.3, whoever has it.
    pub mac: Option<&'static str>,
    /// keepalived moves an address of IPv6 half a second later than it says, in both directions.
    pub late: Duration,
}

pub const SECOND: Duration = Duration::from_secs(1);
pub const V2: Way = Way {
    name: "v2",
    version: 2,
    vip: "10.0.0.100/24",
    advert: SECOND,
    password: None,
    ah: false,
    unicast: false,
    mac: None,
    late: Duration::ZERO,
};
pub const V3: Way = Way { name: "v3", version: 3, advert: Duration::from_millis(100), ..V2 };
pub const V3_IPV6: Way = Way { name: "v3 IPv6", vip: "fd00::100/64", ..V3 };

impl Way {
    pub fn address(&self) -> IpAddr {
        self.vip.split('/').next().unwrap().parse().unwrap()
    }

    pub fn ours(&self, priority: u8) -> String {
        let password = self
            .password
            .map(|word| {
                format!("password = '{word}'\nauthentication = '{}'\n", if self.ah { "ah" } else { "pass" })
            })
            .unwrap_or_default();
        let peers = if self.unicast { "unicast_peers = ['10.0.0.12']\n" } else { "" };
        let mac = if self.mac.is_some() { "virtual_mac = true\n" } else { "" };
        format!(
            "[[vrrp]]\nname = 'VI_1'\nvrid = {VRID}\nversion = {}\npriority = {priority}\naddresses = ['{}']\n\
             advert_interval = '{}ms'\n{password}{peers}{mac}",
            self.version,
            self.vip,
            self.advert.as_millis()
        )
    }

    /// keepalived's first address of IPv6 is to be link-local.
    pub fn theirs(&self, priority: u8) -> String {
        let password = self.password.map(|word| {
            format!(
                " authentication {{\n  auth_type {}\n  auth_pass {word}\n }}\n",
                if self.ah { "AH" } else { "PASS" }
            )
        });
        let peers = " unicast_src_ip 10.0.0.12\n unicast_peer {\n  10.0.0.11\n }\n";
        format!(
            "vrrp_instance VI_1 {{\n state BACKUP\n interface eth0\n version {}\n virtual_router_id {VRID}\n \
             priority {priority}\n advert_int {}\n{}{}{} virtual_ipaddress {{\n  {}\n }}\n}}\n",
            self.version,
            self.advert.as_secs_f64(),
            password.unwrap_or_default(),
            if self.unicast { peers } else { "" },
            if self.mac.is_some() { " use_vmac\n" } else { "" },
            self.vip
        )
    }

    /// RFC 9568 6.1 and RFC 3768 6.1, Skew_Time.
    pub fn skew(&self, priority: u8) -> Duration {
        let unit = if self.version == 2 { SECOND } else { self.advert };
        unit * (256 - u32::from(priority)) / 256
    }

    /// Master_Down_Interval, and what waking up takes on a busy machine.
    pub fn takeover(&self, priority: u8) -> Duration {
        self.advert * 3 + self.skew(priority) + Duration::from_millis(400)
    }

    /// Its version 3 counts in milliseconds, its version 2 too.
    pub fn frr(&self, priority: u8) -> String {
        let family = if self.address().is_ipv4() { "ip" } else { "ipv6" };
        let lines = [
            format!("version {}", self.version),
            format!("priority {priority}"),
            format!("advertisement-interval {}", self.advert.as_millis()),
            format!("{family} {}", self.address()),
        ];
        lines.iter().fold("interface eth0\n".to_owned(), |all, line| all + &format!(" vrrp {VRID} {line}\n"))
    }
}
