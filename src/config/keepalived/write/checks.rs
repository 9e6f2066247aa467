//! `[[check]]` tables, and what each virtual router tracks of them.

use super::super::finding::Kind;
use super::super::model::{Instance, Model, Track, TrackKind, Tracker, Watch};
use super::Doc;
use haclusterd_proto::member::{MAX_CHECK_NAME, MAX_CHECKS};
use std::collections::BTreeMap;
use std::time::Duration;

/// What each is called here.
pub struct Names(BTreeMap<(u8, String), String>);

impl Names {
    /// In the form of the key `track`.
    pub fn list(&self, tracks: &[Track]) -> Vec<toml::Value> {
        let named =
            tracks.iter().filter_map(|track| Some((track, self.0.get(&key(track.kind, &track.name))?)));
        let one = |(track, name): (&Track, &String)| match track.weight {
            None if !track.reverse => toml::Value::from(name.clone()),
            weight => {
                let mut table = toml::Table::new();
                table.insert("check".into(), name.clone().into());
                weight.map(|weight| table.insert("weight".into(), i64::from(weight).into()));
                track.reverse.then(|| table.insert("reverse".into(), true.into()));
                table.into()
            }
        };
        named.map(one).collect()
    }
}

fn key(kind: TrackKind, name: &str) -> (u8, String) {
    (kind as u8, name.to_owned())
}

impl Doc<'_> {
    /// Its own and its group's; in a group weights count for nothing, unless the group says so.
    pub fn tracks(&mut self, model: &Model, instance: &Instance) -> Vec<Track> {
        let group = model.groups.iter().find(|group| group.has(&instance.name));
        let mut tracks = instance.tracks.clone();
        if group.is_some_and(|group| !group.weights) {
            for track in &mut tracks {
                let weight = track.weight.or_else(|| tracker(model, track).and_then(|known| known.weight));
                if weight.is_some_and(|weight| weight != 0) {
                    let what = format!(
                        "{}: the weight of {} counts as 0 in a sync group",
                        instance.name, track.name
                    );
                    self.add(Kind::Invalid, &track.at, what, "keepalived does so as well");
                }
                track.weight = Some(0);
            }
        }
        for track in group.iter().flat_map(|group| &group.tracks) {
            if !tracks.iter().any(|own| own.kind == track.kind && own.name == track.name) {
                tracks.push(track.clone());
            }
        }
        // A virtual router watches its own interface anyhow.
        tracks.retain(|track| {
            track.kind != TrackKind::Interface
                || track.weight.is_some()
                || Some(&track.name) != instance.interface.as_ref()
        });
        tracks
    }

    /// Of all that is tracked. `one`: the weight that an instance gives is the check's own.
    pub fn checks<'t>(
        &mut self,
        model: &Model,
        tracked: impl Iterator<Item = &'t Track>,
        one: bool,
    ) -> Names {
        let mut wanted: Vec<&Track> = Vec::new();
        for track in tracked {
            if !wanted.iter().any(|other| other.kind == track.kind && other.name == track.name) {
                wanted.push(track);
            }
        }
        for tracker in &model.trackers {
            if !wanted.iter().any(|track| track.name == tracker.name && is(&tracker.watch, track.kind)) {
                self.add(
                    Kind::Note,
                    &tracker.at,
                    format!("{} is tracked by nobody and left out", tracker.name),
                    "keepalived does not run it either",
                );
            }
        }
        let mut names = BTreeMap::new();
        for (count, track) in wanted.into_iter().enumerate() {
            if count == MAX_CHECKS {
                let what = format!(
                    "more than {MAX_CHECKS} things are tracked: {} and those after it are left out",
                    track.name
                );
                self.add(Kind::Missing, &track.at, what, "let one script check several");
                break;
            }
            let legal = |c: char| c.is_ascii_alphanumeric() || "-_. ".contains(c);
            let at = tracker(model, track).map_or(&track.at, |tracker| &tracker.at).clone();
            let name = self.name(&at, &track.name, MAX_CHECK_NAME, legal);
            match tracker(model, track) {
                Some(tracker) => self.check(tracker, &name, one.then_some(track)),
                None => {
                    self.table("[[check]]", &[]);
                    self.key("kind", "interface");
                    self.key("name", name.clone());
                    self.key("interface", track.name.clone());
                    if let Some(weight) = track.weight.filter(|_| one) {
                        self.key("weight", i64::from(weight));
                        self.reverse(track.reverse);
                    }
                }
            }
            names.insert(key(track.kind, &track.name), name);
        }
        Names(names)
    }

    fn check(&mut self, tracker: &Tracker, name: &str, track: Option<&Track>) {
        self.table("[[check]]", &tracker.comments);
        self.key("name", name.to_owned());
        match &tracker.watch {
            Watch::Script { .. } => self.script(tracker),
            Watch::Process { words, whole, quorum, quorum_max } => {
                self.key("kind", "process");
                match whole {
                    true => self.key("command", words.clone()),
                    false => self.key("program", words[0].chars().take(15).collect::<String>()),
                }
                self.key("quorum", i64::from(*quorum));
                if let Some(most) = quorum_max {
                    self.key("quorum_max", i64::from(*most));
                }
            }
            Watch::File { path } => {
                self.key("kind", "file");
                self.key("path", path.clone());
            }
        }
        let own = track.and_then(|track| track.weight);
        self.weight(tracker, own.or(tracker.weight).unwrap_or(tracker.watch.usual_weight()));
        self.reverse(
            track.map_or(tracker.reverse, |track| track.reverse || own.is_none() && tracker.reverse),
        );
    }

    fn script(&mut self, tracker: &Tracker) {
        let Watch::Script { command, tcp, interval, timeout, rise, fall, init_fail } = &tracker.watch else {
            return;
        };
        if let Some(socket) = tcp {
            self.key("kind", "tcp");
            self.key("address", socket.to_string());
        } else {
            self.key("kind", "script");
            let words = self.command(command);
            self.key("command", words);
            self.key("user", self.node.user_of(command));
        }
        let interval = self.bounded(tracker, "interval", *interval);
        self.span("interval", interval);
        if let Some(timeout) = timeout {
            let timeout = self.bounded(tracker, "timeout", *timeout);
            self.span("timeout", timeout);
        }
        for (key, count) in [("rise", *rise), ("fall", *fall)] {
            if count > 100 {
                self.add(
                    Kind::Differs,
                    &tracker.at,
                    format!("{key} becomes 100, the most there is"),
                    "write 1 to 100",
                );
            }
            self.key(key, i64::from(count.min(100)));
        }
        if *init_fail {
            self.key("initial", "down");
        }
        let nginx = command.words.iter().any(|word| word.contains("nginx"));
        if nginx {
            let remedy = "a [[check]] of kind \"nginx\" knows of its death at once, of hung answers and of full log disks, and needs no script";
            self.add(Kind::Note, &tracker.at, format!("{} looks after nginx", tracker.name), remedy);
        }
    }

    fn bounded(&mut self, tracker: &Tracker, key: &str, asked: Duration) -> Duration {
        let most = Duration::from_secs(600);
        let millis = Duration::from_millis(u64::try_from(asked.as_millis()).unwrap_or(u64::MAX));
        let can = millis.clamp(Duration::from_millis(10), most);
        if can != asked {
            self.add(
                Kind::Differs,
                &tracker.at,
                format!("{key} becomes {} s", can.as_secs_f64()),
                "write 0.01 to 600, in steps of 1 ms",
            );
        }
        can
    }

    fn weight(&mut self, tracker: &Tracker, weight: i32) {
        let most = match tracker.watch {
            Watch::File { .. } => i32::from(i16::MAX),
            Watch::Process { .. } => 254,
            Watch::Script { .. } => 253,
        };
        let can = weight.clamp(-most, most);
        if can != weight {
            self.add(
                Kind::Differs,
                &tracker.at,
                format!("the weight {weight} becomes {can}"),
                "write a smaller one",
            );
        }
        self.key("weight", i64::from(can));
    }

    fn reverse(&mut self, reverse: bool) {
        if reverse {
            self.key("reverse", true);
        }
    }
}

/// Its own or the check's, or what is usual for its kind.
pub fn weight(model: &Model, track: &Track) -> i32 {
    let known = tracker(model, track);
    let usual = known.map_or(0, |known| known.watch.usual_weight());
    track.weight.or_else(|| known?.weight).unwrap_or(usual)
}

fn tracker<'m>(model: &'m Model, track: &Track) -> Option<&'m Tracker> {
    model.trackers.iter().find(|tracker| tracker.name == track.name && is(&tracker.watch, track.kind))
}

fn is(watch: &Watch, kind: TrackKind) -> bool {
    matches!(
        (watch, kind),
        (Watch::Script { .. }, TrackKind::Script)
            | (Watch::Process { .. }, TrackKind::Process)
            | (Watch::File { .. }, TrackKind::File)
    )
}
