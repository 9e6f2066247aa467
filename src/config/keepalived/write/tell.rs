//! Who hears of changes: `notify_…`, `[notify]` and `[mail]`.

use super::super::finding::Kind;
use super::super::model::{Mail, Model, Notify};
use super::Doc;
use crate::config::parse::hooks::is_mailbox;

impl Doc<'_> {
    pub fn notify(&mut self, notify: &Notify, alert: bool) {
        let mut users = Vec::new();
        for (key, command) in notify.programs() {
            let words = self.command(command);
            users.push((self.node.user_of(command).to_owned(), command.at.clone()));
            self.key(key, words);
        }
        let Some((user, _)) = users.first().cloned() else { return self.alert(notify, alert) };
        self.key("notify_user", user.clone());
        for (other, at) in users.into_iter().filter(|(other, _)| *other != user) {
            self.add(
                Kind::Differs,
                &at,
                format!("all of these run as {user}, also this one, which ran as {other}"),
                "let them run as one user",
            );
        }
        self.alert(notify, alert);
    }

    fn alert(&mut self, notify: &Notify, default: bool) {
        if notify.smtp_alert.unwrap_or(default) {
            self.key("smtp_alert", true);
        }
    }

    /// Whether anybody is to be written to.
    pub fn mail(&mut self, model: &Model) -> bool {
        let global = &model.global;
        let mail = &global.mail;
        let to = self.receivers(mail);
        let Some((host, port)) = mail.server.as_ref().filter(|_| !to.is_empty()) else { return false };
        let server = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        self.table("[mail]", &[]);
        self.key("server", server);
        // As keepalived does; a relay on this host needs no more.
        self.key("tls", "none");
        let from = mail.from.clone().unwrap_or_else(|| format!("keepalived@{}", self.node.name));
        self.key("from", mailbox(&from));
        self.texts("to", to);
        if let Some(hello) = &mail.hello {
            self.key("hello", hello.clone());
        }
        if let Some(id) = &global.router_id {
            self.key("router_id", id.clone());
        }
        if let Some(timeout) = mail.timeout {
            self.span("timeout", timeout);
        }
        true
    }

    /// Each who can be written to.
    fn receivers(&mut self, mail: &Mail) -> Vec<String> {
        let mut to = Vec::new();
        for (at, text) in &mail.to {
            let own = mailbox(text);
            match is_mailbox(&own) {
                true => to.push(own),
                false => {
                    let what = format!("{text} is no mail address, and is left out");
                    self.add(Kind::Missing, at, what, "write it as admin@example.com");
                }
            }
        }
        if let Some((at, _)) = mail.to.first().filter(|_| mail.server.is_none()) {
            let what = "nobody is written to, for no smtp_server is named";
            self.add(Kind::Missing, at, what, "write smtp_server ADDRESS into global_defs");
        }
        to
    }

    pub fn fifo(&mut self, model: &Model) {
        let Some(fifo) = &model.global.fifo else { return };
        self.table("[notify]", &[]);
        self.key("fifo", fifo.clone());
        if let Some(script) = &model.global.fifo_script {
            let words = self.command(script);
            self.key("fifo_script", words);
        }
    }
}

/// `Name <user@host>` without the name. Who has no host is somebody on this one.
fn mailbox(text: &str) -> String {
    let inner = text.rsplit_once('<').and_then(|(_, rest)| rest.split_once('>'));
    let bare = inner.map_or(text, |(inner, _)| inner).trim();
    if bare.contains('@') { bare.to_owned() } else { format!("{bare}@localhost") }
}
