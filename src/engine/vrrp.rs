//! One virtual router of one family: the state machine of RFC 9568 6.4, and of RFC 3768 6.4 where version 2 differs.
//!
//! ```text
//!              fit                       the master is silent
//!   Init ---------------> Backup -------------------------------> Master
//!     ^                   |    <-------------------------------   |
//!     |      unfit        |      a better advert                  |
//!     +-------------------+---------------------------------------+
//! ```
//! It knows nothing of addresses, health and groups: it is told its priority, or that it has none, and says when to
//! advertise. Where the RFC leaves a choice, it is keepalived's.

use super::time::Instant;
use haclusterd_proto::vrrp::VrrpPriority;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// 5.2.4: the sender gives up.
pub const LEAVING: u8 = VrrpPriority::LEAVING.0;
/// 5.2.4: the router that has the address by itself.
pub const ADDRESS_OWNER: u8 = VrrpPriority::ADDRESS_OWNER.0;
/// 6.1: adverts that a master may miss.
const MISSES: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    V2,
    V3,
}

impl Version {
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Version::V2 => 2,
            Version::V3 => 3,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub version: Version,
    /// 6.1, Advertisement_Interval.
    pub interval: Duration,
    /// 6.1, Preempt_Mode.
    pub preempt: bool,
    /// How long a worse master must have been heard before it is preempted.
    pub preempt_delay: Duration,
    /// Begins as if it had just heard itself: keepalived's `state MASTER`.
    pub eager: bool,
}

/// What an advert says that passed every check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advert {
    pub source: IpAddr,
    pub priority: u8,
    /// The sender's, in version 3; in version 2 it is ours, or the advert would not have passed.
    pub interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Init,
    Backup,
    Master,
}

/// An advert with this priority is to be sent, now.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send(pub u8);

#[derive(Clone, Debug, Serialize)]
pub struct Router {
    settings: Settings,
    state: State,
    priority: u8,
    /// Init: none; Backup: the master's silence is over; Master: the next advert.
    timer: Option<Instant>,
    /// 6.1, Master_Adver_Interval.
    master_interval: Duration,
    /// The master was silent, and it could not lead yet.
    wanting: bool,
    /// Since when a worse master is heard that may be preempted.
    worse_since: Option<Instant>,
    advertised: Instant,
    /// An earlier run was the master: until then nobody takes over from it.
    heir_until: Instant,
}

impl Router {
    #[must_use]
    pub fn new(settings: Settings) -> Router {
        let master_interval = settings.interval;
        Router {
            settings,
            state: State::Init,
            priority: 0,
            timer: None,
            master_interval,
            wanting: false,
            worse_since: None,
            advertised: Instant::default(),
            heir_until: Instant::default(),
        }
    }

    /// The master was an earlier run of this router, and whoever heard it waits until then.
    pub fn inherit(&mut self, until: Instant) {
        self.heir_until = until;
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    #[must_use]
    pub fn priority(&self) -> u8 {
        self.priority
    }

    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.timer
    }

    /// Until when nobody who hears our adverts takes over: a master whose daemon hangs must not answer any longer.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        let silence = self.settings.interval * MISSES;
        (self.state == State::Master).then(|| self.advertised + silence)
    }

    /// New settings: a timer that runs goes on.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// The priority of now. `None`: something is wrong with this host, and it takes no part.
    pub fn set_priority(&mut self, priority: Option<u8>, now: Instant) -> Option<Send> {
        match (self.state, priority) {
            (State::Init, Some(priority)) => {
                self.priority = priority;
                self.start(now)
            }
            (State::Init, None) => None,
            (_, Some(priority)) => {
                self.priority = priority;
                None
            }
            (_, None) => self.stop(),
        }
    }

    /// 6.4.1, Startup.
    fn start(&mut self, now: Instant) -> Option<Send> {
        self.master_interval = self.settings.interval;
        if self.priority == ADDRESS_OWNER || now < self.heir_until {
            return Some(self.lead(now));
        }
        self.state = State::Backup;
        let wait = if self.settings.eager { self.eager_wait() } else { self.down_interval() };
        self.timer = Some(now + wait);
        None
    }

    /// As keepalived: an advert's time and the shortest skew.
    fn eager_wait(&self) -> Duration {
        self.settings.interval + Duration::from_secs(1) / 256
    }

    /// 6.4.2 (335) and 6.4.3 (655): the end, or something that must mend first.
    pub fn stop(&mut self) -> Option<Send> {
        let was = std::mem::replace(&mut self.state, State::Init);
        (self.timer, self.wanting, self.worse_since) = (None, false, None);
        (was == State::Master).then_some(Send(LEAVING))
    }

    /// Is the master's silence over?
    #[must_use]
    pub fn wants(&self, now: Instant) -> bool {
        match self.state {
            State::Init => false,
            State::Backup => self.wanting || self.timer.is_some_and(|at| at <= now),
            State::Master => true,
        }
    }

    /// Does what is due. `may`: those that it must keep step with want it too.
    pub fn expire(&mut self, may: bool, now: Instant) -> Option<Send> {
        if self.state == State::Backup && may && self.wants(now) {
            return Some(self.lead(now));
        }
        if self.timer.is_none_or(|at| at > now) {
            return None;
        }
        match self.state {
            State::Init => None,
            State::Backup => {
                self.wanting = true;
                self.timer = Some(now + self.down_interval());
                None
            }
            State::Master => {
                // So that being woken late does not add up.
                let next = self.timer.map(|due| due + self.settings.interval).filter(|next| *next > now);
                let send = self.advertise(now);
                self.timer = next.or(self.timer);
                Some(send)
            }
        }
    }

    /// 6.4.2 (360): takes over.
    fn lead(&mut self, now: Instant) -> Send {
        (self.state, self.wanting, self.worse_since) = (State::Master, false, None);
        self.advertise(now)
    }

    /// Whoever must keep step with this one has ended: it is no master any more.
    pub fn yield_now(&mut self, now: Instant) {
        if self.state == State::Master {
            self.follow(self.settings.interval, now);
        }
    }

    fn advertise(&mut self, now: Instant) -> Send {
        self.advertised = now;
        self.timer = Some(now + self.settings.interval);
        Send(self.priority)
    }

    /// `me`: the primary address that our adverts come from.
    pub fn heard(&mut self, advert: &Advert, me: Option<IpAddr>, now: Instant) -> Option<Send> {
        match self.state {
            State::Init => None,
            State::Backup => {
                self.heard_as_backup(advert, now);
                None
            }
            State::Master => self.heard_as_master(advert, me, now),
        }
    }

    /// 6.4.2 (415 to 465).
    fn heard_as_backup(&mut self, advert: &Advert, now: Instant) {
        if advert.priority == LEAVING {
            self.timer = Some(now + self.skew());
        } else if advert.priority >= self.priority || !self.preempts(now) {
            self.worse_since = self.worse_since.filter(|_| advert.priority < self.priority);
            (self.master_interval, self.wanting) = (advert.interval, false);
            self.timer = Some(now + self.down_interval());
        }
        // Else it is discarded: the timer runs out, and the better takes over.
    }

    fn preempts(&mut self, now: Instant) -> bool {
        let since = *self.worse_since.get_or_insert(now);
        self.settings.preempt && now >= since + self.settings.preempt_delay
    }

    /// 6.4.3 (705 to 765).
    fn heard_as_master(&mut self, advert: &Advert, me: Option<IpAddr>, now: Instant) -> Option<Send> {
        let tie = advert.priority == self.priority && me.is_some_and(|me| advert.source > me);
        if advert.priority != LEAVING && (advert.priority > self.priority || tie) {
            self.follow(advert.interval, now);
            return None;
        }
        // The leaving one's backups, and the switches, must learn at once whom to follow.
        Some(self.advertise(now))
    }

    fn follow(&mut self, interval: Duration, now: Instant) {
        (self.state, self.worse_since, self.master_interval) = (State::Backup, None, interval);
        self.wanting = false;
        self.timer = Some(now + self.down_interval());
    }

    /// 6.1, Skew_Time: the better takes over first. In version 2 it is counted in seconds, whatever the interval.
    fn skew(&self) -> Duration {
        let unit = match self.settings.version {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => self.master_interval,
        };
        unit * (256 - u32::from(self.priority)) / 256
    }

    /// 6.1, Master_Down_Interval.
    fn down_interval(&self) -> Duration {
        self.master_interval * MISSES + self.skew()
    }
}
