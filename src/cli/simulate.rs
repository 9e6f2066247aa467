//! `haclusterd simulate --down NODE`: who would own what.

use super::print::{self, Output};
use super::table::{self, Cell, Tone};
use super::{PATIENCE, fail, no_daemon};
use crate::io::control;
use haclusterd_proto::control::{Forecast, Request, Response};
use std::path::Path;

const HEADER: [&str; 3] = ["VIP", "NOW", "THEN"];
const UNOWNED: u8 = 2;

/// Show who would own each VIP if some nodes were down. Nothing is done.
///
/// Exit code: 0 each VIP would have an owner; 1 there is no such node; 2 one would have none; 3 no daemon.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A member's name. May be given several times; without it, as all is now.
    #[arg(long, value_name = "NODE")]
    down: Vec<String>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args, socket: &Path) -> u8 {
    let forecast = match control::ask(socket, &Request::Forecast { down: args.down.clone() }, PATIENCE) {
        Ok(Response::Forecast(forecast)) => forecast,
        Ok(Response::Error(reason)) => return fail(&reason),
        Ok(_) => return fail(&"the daemon is of another version: restart it after an update"),
        Err(error) => return no_daemon(&error),
    };
    print::say(&match args.output {
        Output::Json => print::json(&forecast),
        _ => render(&args.down, &forecast, print::colour()),
    });
    if forecast.vips.iter().any(|vip| vip.then.is_none()) { UNOWNED } else { 0 }
}

fn render(down: &[String], forecast: &Forecast, colour: bool) -> String {
    let Forecast { voters, needed, vips } = forecast;
    let down = if down.is_empty() { "nobody".to_owned() } else { down.join(", ") };
    let enough = if voters >= needed { "" } else { ": too few, nobody owns anything" };
    let mut rows = vec![HEADER.iter().map(Cell::from).collect()];
    rows.extend(vips.iter().map(|vip| {
        let tone = if vip.then.is_some() { Tone::Good } else { Tone::Bad };
        vec![
            (&vip.name).into(),
            vip.owner.clone().unwrap_or_default().into(),
            Cell::new(vip.then.as_deref().unwrap_or("nobody"), tone),
        ]
    }));
    format!("with {down} down: {voters} voters of {needed} needed{enough}\n") + &table::render(&rows, colour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use haclusterd_proto::control::VipForecast;

    #[test]
    fn who_would_own_what() {
        let vip = |then: Option<&str>| VipForecast {
            name: "web".into(),
            owner: Some("lb1".into()),
            then: then.map(str::to_owned),
        };
        let forecast = |voters, then| Forecast { voters, needed: 2, vips: vec![vip(then)] };
        assert_eq!(
            render(&["lb1".into()], &forecast(2, Some("lb2")), false),
            "with lb1 down: 2 voters of 2 needed\nVIP  NOW  THEN\nweb  lb1  lb2\n"
        );
        assert_eq!(
            render(&["lb1".into(), "lb2".into()], &forecast(1, None), false),
            "with lb1, lb2 down: 1 voters of 2 needed: too few, nobody owns anything\nVIP  NOW  THEN\nweb  lb1  nobody\n"
        );
    }
}
