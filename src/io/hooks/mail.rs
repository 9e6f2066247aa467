//! Mails about changes, one after the other, by a thread of their own: a mail server may take its time.

use super::Counters;
use super::message;
use crate::config::hooks::{Mail, Security};
use crate::engine::hooks::Changed;
use lettre::message::Mailbox;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Message, SmtpTransport, Transport};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Of more changes than that, nobody reads every mail.
const MAX_WAITING: usize = 100;
/// Before each attempt but the first.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

pub(super) struct Letter {
    pub mail: Mail,
    pub node: String,
    pub changed: Changed,
}

pub(super) struct Post {
    letters: SyncSender<Letter>,
    counters: Arc<Counters>,
}

impl Post {
    pub fn open(counters: Arc<Counters>) -> Post {
        let (letters, waiting) = sync_channel(MAX_WAITING);
        let own = counters.clone();
        let thread = std::thread::Builder::new().name("mail".into());
        if let Err(error) = thread.spawn(move || deliver_all(&waiting, &own)) {
            tracing::warn!("no mail is sent: no thread could be started: {error}");
        }
        Post { letters, counters }
    }

    pub fn send(&self, letter: Letter) {
        self.counters.mails_waiting.fetch_add(1, Ordering::Relaxed);
        if self.letters.try_send(letter).is_err() {
            self.counters.mails_waiting.fetch_sub(1, Ordering::Relaxed);
            self.counters.mails_failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("a mail is not sent: {MAX_WAITING} wait already for the mail server");
        }
    }
}

fn deliver_all(letters: &Receiver<Letter>, counters: &Counters) {
    for letter in letters {
        let result = deliver(&letter);
        let count = if result.is_ok() { &counters.mails_sent } else { &counters.mails_failed };
        count.fetch_add(1, Ordering::Relaxed);
        counters.mails_waiting.fetch_sub(1, Ordering::Relaxed);
        if let Err(reason) = result {
            let Mail { host, port, .. } = &letter.mail;
            tracing::warn!("{}: no mail could be sent by {host}:{port}: {reason}", letter.changed.name);
        }
    }
}

fn deliver(letter: &Letter) -> Result<(), String> {
    let (message, server) = (write(letter)?, server(&letter.mail, &letter.node)?);
    let mut pauses = PAUSES.iter();
    loop {
        match (server.send(&message), pauses.next()) {
            (Ok(_), _) => return Ok(()),
            (Err(error), Some(pause)) if !error.is_permanent() => std::thread::sleep(*pause),
            (Err(error), _) => return Err(whole(&error)),
        }
    }
}

fn write(Letter { mail, node, changed }: &Letter) -> Result<Message, String> {
    let mailbox = |text: &String| text.parse::<Mailbox>().map_err(|error| format!("{text}: {error}"));
    let (subject, text) = message::mail(mail.router_id.as_ref().unwrap_or(node), node, changed);
    let mut message = Message::builder().from(mailbox(&mail.from)?).subject(subject);
    for to in &mail.to {
        message = message.to(mailbox(to)?);
    }
    message.body(text).map_err(|error| error.to_string())
}

fn server(mail: &Mail, node: &str) -> Result<SmtpTransport, String> {
    let parameters = || TlsParameters::new(mail.host.clone()).map_err(|error| whole(&error));
    let tls = match mail.security {
        Security::None => Tls::None,
        Security::Starttls => Tls::Required(parameters()?),
        Security::Tls => Tls::Wrapper(parameters()?),
    };
    let hello = mail.hello.clone().unwrap_or_else(|| node.to_owned());
    let server = SmtpTransport::builder_dangerous(&mail.host).port(mail.port).tls(tls);
    Ok(server.hello_name(ClientId::Domain(hello)).timeout(Some(mail.timeout)).build())
}

fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::hooks::{Kind, Part};
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    /// Answers `refuse` mails with a failure that passes, and gives what it took after that.
    fn serve(listener: &TcpListener, refuse: usize) -> String {
        let mut left = refuse;
        loop {
            let (stream, _) = listener.accept().unwrap();
            if let Some(text) = talk(stream, &mut left) {
                return text;
            }
        }
    }

    fn talk(mut stream: TcpStream, refuse: &mut usize) -> Option<String> {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut say = |text: &str| write!(stream, "{text}\r\n").unwrap();
        say("220 test");
        while let Some(Ok(line)) = lines.next() {
            match line.get(..4).unwrap_or(&line) {
                "EHLO" => say(&format!("250 {line}")),
                "MAIL" if *refuse > 0 => {
                    *refuse -= 1;
                    say("451 later");
                    return None;
                }
                "DATA" => {
                    say("354 go on");
                    let text: Vec<String> =
                        lines.by_ref().map_while(Result::ok).take_while(|l| l != ".").collect();
                    say("250 taken");
                    return Some(text.join("\n"));
                }
                _ => say("250 ok"),
            }
        }
        None
    }

    #[test]
    fn a_mail_is_sent_although_the_server_refuses_at_first() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mail = Mail {
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
            security: Security::None,
            from: "ha@example.com".into(),
            to: vec!["a@example.com".into(), "b@example.com".into()],
            hello: None,
            router_id: Some("R1".into()),
            timeout: Duration::from_secs(5),
        };
        let changed = Changed {
            kind: Kind::Vip,
            name: "web".into(),
            part: Part::Owner,
            priority: 100,
            old_owner: String::new(),
            new_owner: "lb1".into(),
            epoch: 7,
            reason: String::new(),
        };
        let counters: Arc<Counters> = Arc::default();
        let post = Post::open(counters.clone());
        post.send(Letter { mail, node: "lb1".into(), changed });
        let text = serve(&listener, 1);
        assert!(text.contains("Subject: [R1] VRRP Instance web - Entering MASTER state\n"), "{text}");
        assert!(text.contains("b@example.com") && text.contains("\nweb is MASTER on lb1"), "{text}");
        while counters.mails_waiting.load(Ordering::Relaxed) > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(counters.mails_sent.load(Ordering::Relaxed), 1);
    }
}
