//! The engine's inputs and actions in few words, with the names that the journal gives.

use crate::engine::elect::Owner;
use crate::engine::health::Outcome;
use crate::engine::time::Instant;
use crate::engine::vip::Verify;
use crate::engine::{Action, Config, Input};
use crate::io::journal::Header;
use haclusterd_proto::cluster::{Message, VoterSet};
use haclusterd_proto::control::{Order, VoterRequest};
use haclusterd_proto::{MacAddr, NodeId, VipId};
use std::collections::{BTreeMap, BTreeSet};

/// Who is called how.
pub struct Book {
    started: Instant,
    me: NodeId,
    nodes: BTreeMap<NodeId, String>,
    /// Also those that are configured no more.
    vips: BTreeMap<VipId, String>,
    /// What is installed again is only renewed.
    installed: BTreeSet<VipId>,
}

/// One action.
pub struct Said {
    pub vip: Option<VipId>,
    /// Repeats all the time, and changes nothing.
    pub routine: bool,
    pub text: String,
}

impl Book {
    pub fn new(header: &Header) -> Book {
        let me = header.config.record.node;
        let mut book = Book {
            started: header.started,
            me,
            nodes: BTreeMap::new(),
            vips: BTreeMap::new(),
            installed: BTreeSet::new(),
        };
        book.learn_config(&header.config);
        book
    }

    pub fn learn(&mut self, input: &Input) {
        match input {
            Input::Member(record) => drop(self.nodes.insert(record.node, record.name.clone())),
            Input::Reconfigure(config) => self.learn_config(config),
            Input::AddressLost(vip) => drop(self.installed.remove(vip)),
            _ => {}
        }
    }

    fn learn_config(&mut self, config: &Config) {
        self.nodes.insert(config.record.node, config.record.name.clone());
        self.vips.extend(config.vips.iter().map(|vip| (vip.id, vip.name.clone())));
    }

    /// Milliseconds since the daemon began.
    pub fn time(&self, at: Instant) -> String {
        let micros = at.since(self.started).as_micros();
        format!("{}.{:03}", micros / 1000, micros % 1000)
    }

    pub fn vips(&self) -> impl Iterator<Item = (VipId, String)> {
        self.vips.iter().map(|(vip, name)| (*vip, name.clone()))
    }

    pub fn vip(&self, vip: VipId) -> String {
        self.vips.get(&vip).cloned().unwrap_or_else(|| vip.to_string())
    }

    fn node(&self, node: NodeId) -> String {
        self.nodes.get(&node).cloned().unwrap_or_else(|| node.short())
    }

    pub fn owner(&self, owner: Owner) -> String {
        match owner {
            Owner::Nobody => "nobody".into(),
            Owner::Us { term, .. } => format!("{} (term {term})", self.node(self.me)),
            Owner::Peer(node) => self.node(node),
        }
    }

    pub fn input(&self, input: &Input) -> String {
        match input {
            Input::Deadline => "deadline".into(),
            Input::Message { from, message } => {
                format!("{} from {}", message_kind(message), self.node(*from))
            }
            Input::Connected(node) => format!("connected to {}", self.node(*node)),
            Input::Member(record) => format!("record of {}", record.name),
            Input::Check { name, part, outcome } => check(name, part, outcome),
            Input::Interfaces(all) => {
                let one = |(vip, state): &(VipId, Result<MacAddr, String>)| match state {
                    Ok(mac) => format!("{}: interface {mac}", self.vip(*vip)),
                    Err(why) => format!("{}: {why}", self.vip(*vip)),
                };
                all.iter().map(one).collect::<Vec<_>>().join(", ")
            }
            Input::Installed(all) => self.each(all, "installed"),
            Input::Removed(all) => self.each(all, "removed"),
            Input::AddressLost(vip) => format!("{} lost its address", self.vip(*vip)),
            Input::Claim { vip, mac } => format!("{mac} answers for {}", self.vip(*vip)),
            Input::Vrrp(heard) => {
                format!("{}: advert of {}, priority {}", self.vip(heard.vip), heard.source, heard.priority)
            }
            Input::Primary { vip, address: Some(address) } => {
                format!("{}: adverts come from {address}", self.vip(*vip))
            }
            Input::Primary { vip, address: None } => format!("{}: no address for adverts", self.vip(*vip)),
            Input::GatewayAnswered => "gateway answers".into(),
            Input::Voters(signed) => self.voters(&signed.set),
            Input::VotersStored { stamp, result } => {
                format!("voters {} {}", stamp.version, done("stored", result))
            }
            Input::Renewed(_) => "certificate renewed".into(),
            Input::Reconfigure(_) => "new configuration".into(),
            Input::Clone(from) => format!("this node's key is used at {from}"),
            Input::Shutdown { leave: true } => "told to leave".into(),
            Input::Shutdown { leave: false } => "told to stop".into(),
            Input::ChangeVoters(request) => format!("told of the voters: {}", wish(request)),
            Input::Order(Order::Standby { on: true, .. }) => "told to stand by".into(),
            Input::Order(Order::Standby { on: false, .. }) => "told to stand by no more".into(),
            Input::Order(Order::Move { vip, to, .. }) => {
                format!(
                    "told to move {vip} {}",
                    to.as_ref().map_or("by priorities".into(), |to| format!("to {to}"))
                )
            }
            Input::Restart => "told to restart".into(),
        }
    }

    pub fn action(&mut self, action: &Action) -> Said {
        let (vip, routine, text) = match action {
            Action::Send { to, message } => {
                (None, true, format!("{} to {}", message_kind(message), self.node(*to)))
            }
            Action::Install { vip, until, .. } => {
                let renewal = !self.installed.insert(*vip);
                let what = if renewal { "renew" } else { "install" };
                (Some(*vip), renewal, format!("{what} {}", self.until(*vip, *until)))
            }
            Action::Extend(fences) => {
                let fences: Vec<String> =
                    fences.iter().map(|(vip, until)| self.until(*vip, *until)).collect();
                (None, true, format!("keep open {}", fences.join(" and ")))
            }
            Action::ExtendAll(until) => (None, true, format!("keep all open {}", self.time(*until))),
            Action::Quiet(vip) => {
                (Some(*vip), false, format!("take no new connections for {}", self.vip(*vip)))
            }
            Action::Remove(vip) => {
                self.installed.remove(vip);
                (Some(*vip), false, format!("remove {}", self.vip(*vip)))
            }
            Action::Announce(vip) => (Some(*vip), false, format!("announce {}", self.vip(*vip))),
            Action::Verify { vip, what } => {
                let text = match what {
                    Verify::Begin => "ask the neighbours whether they know",
                    Verify::Again => "ask those that have not answered about",
                    Verify::End => "wait no longer for answers about",
                };
                (Some(*vip), *what == Verify::Again, format!("{text} {}", self.vip(*vip)))
            }
            Action::Probe(vip) => (Some(*vip), true, format!("probe {}", self.vip(*vip))),
            Action::Vrrp { vip, priority } => {
                (Some(*vip), true, format!("advertise {}, priority {priority}", self.vip(*vip)))
            }
            Action::ProbeGateway => (None, true, "probe the gateway".into()),
            Action::Publish(record) => {
                let priority = record.priority.map_or("out".into(), |priority| priority.to_string());
                (None, false, format!("publish priority {priority}, health {:?}", record.health))
            }
            Action::SignVoters(set) => (None, false, format!("sign {}", self.voters(set))),
            Action::StoreVoters(signed) => (None, false, format!("store {}", self.voters(&signed.set))),
            Action::Dismiss(nodes) => (None, false, format!("dismiss {}", self.all(nodes))),
            Action::Remember(_) => (None, true, "remember what a successor must know".into()),
            Action::Changed(changed) => {
                (None, false, format!("tell programs: {} {}", changed.name, changed.part.vrrp()))
            }
            Action::Log(event) => {
                (None, false, format!("{} {:?}", if event.warning { "warn" } else { "log" }, event.text))
            }
            Action::Exit => (None, false, "exit".into()),
        };
        Said { vip, routine, text }
    }

    fn each(&self, all: &[(VipId, Result<(), String>)], verb: &str) -> String {
        let each = all.iter().map(|(vip, result)| format!("{}: {}", self.vip(*vip), done(verb, result)));
        each.collect::<Vec<_>>().join(", ")
    }

    fn until(&self, vip: VipId, until: Instant) -> String {
        format!("{} until {}", self.vip(vip), self.time(until))
    }

    fn voters(&self, set: &VoterSet) -> String {
        format!("voters {} ({:?}: {})", set.version, set.step, self.all(&set.voters))
    }

    fn all(&self, nodes: &[NodeId]) -> String {
        nodes.iter().map(|node| self.node(*node)).collect::<Vec<_>>().join(" ")
    }
}

fn message_kind(message: &Message) -> &'static str {
    match message {
        Message::Advert(_) => "advert",
        Message::Answer(_) => "answer",
        Message::Freed(_) => "freed",
        Message::Voters(_) => "voters",
        Message::Move(_) => "move",
    }
}

fn wish(request: &VoterRequest) -> String {
    match request {
        VoterRequest::Add { name, witness: true } => format!("add {name} as a witness"),
        VoterRequest::Add { name, witness: false } => format!("add {name}"),
        VoterRequest::Remove { name } => format!("remove {name}"),
        VoterRequest::Expel { name, .. } => format!("expel {name}"),
        VoterRequest::Automatic => "choose again".into(),
        VoterRequest::Recover { keep } => format!("only {} are left", keep.join(" ")),
    }
}

fn done(what: &str, result: &Result<(), String>) -> String {
    match result {
        Ok(()) => what.into(),
        Err(why) => format!("not {what}: {why}"),
    }
}

fn check(name: &str, part: &str, outcome: &Outcome) -> String {
    let said = match outcome {
        Outcome::Pass => "passes".into(),
        Outcome::Warn(why) => format!("warns: {why}"),
        Outcome::Saturated(why) => format!("is saturated: {why}"),
        Outcome::Number(number) => format!("says {number}"),
        Outcome::Fail(why) => format!("fails: {why}"),
        Outcome::Certain(why) => format!("fails for certain: {why}"),
    };
    match part {
        "" => format!("check {name} {said}"),
        part => format!("check {name}, {part}, {said}"),
    }
}
