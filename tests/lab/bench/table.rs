//! The figures as a table and as a plot.

use super::fault::FAULTS;
use super::system::KINDS;
use super::{ROUNDS, Run};
use plotters::prelude::*;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const COLORS: [RGBColor; KINDS.len()] = [
    RGBColor(120, 120, 120),
    RGBColor(60, 60, 60),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
];
const SIZE: (u32, u32) = (960, 720);

/// Of one fault on one system.
struct Cell {
    gaps_ms: Vec<f64>,
    failed: usize,
    delayed: usize,
    two_ms: f64,
    for_good: usize,
}

impl Cell {
    /// `None`: it was not run.
    fn of(runs: &[Run], fault: &str, system: &str) -> Option<Cell> {
        let own: Vec<&Run> = runs.iter().filter(|run| run.fault == fault && run.system == system).collect();
        let mut gaps_ms: Vec<f64> = own.iter().map(|run| ms(run.gap_us)).collect();
        gaps_ms.sort_by(f64::total_cmp);
        (!own.is_empty()).then(|| Cell {
            gaps_ms,
            failed: own.iter().map(|run| run.failed).sum(),
            delayed: own.iter().map(|run| run.delayed).sum(),
            two_ms: own.iter().map(|run| ms(run.two_us)).fold(0.0, f64::max),
            for_good: own.iter().filter(|run| run.for_good).count(),
        })
    }

    /// Least, median, most.
    fn three(&self) -> [f64; 3] {
        let gaps = &self.gaps_ms;
        [gaps[0], gaps[gaps.len() / 2], gaps[gaps.len() - 1]]
    }

    fn row(&self) -> String {
        let [least, median, most] = self.three();
        let two = match self.for_good {
            0 => format!("{:.0}", self.two_ms),
            some => format!("for good, {some} of {}", self.gaps_ms.len()),
        };
        format!("{least:.1} | {median:.1} | {most:.1} | {} | {} | {two}", self.failed, self.delayed)
    }
}

#[allow(clippy::cast_precision_loss)]
fn ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// Into the documentation, if it is the whole.
pub fn write(runs: &[Run], rounds: u32) {
    let whole = rounds == ROUNDS && runs.len() == KINDS.len() * FAULTS.len() * ROUNDS as usize;
    let documented = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks");
    let dir = if whole { documented } else { PathBuf::from(env!("CARGO_TARGET_TMPDIR")) };
    fs::create_dir_all(&dir).unwrap();
    let text = table(runs, rounds);
    println!("\n{text}");
    fs::write(dir.join("failover.md"), text).unwrap();
    plot(runs, &dir.join("failover.svg")).unwrap();
    println!("written to {}", dir.display());
}

fn table(runs: &[Run], rounds: u32) -> String {
    let mut text = format!(
        "# Failover\n\nWritten by `make bench`: {rounds} runs of each, 1,000 requests a second over new connections, a timeout of 1.5 s. \
         *Gap*: the longest\ntime without an answer, which is 1 to 2 ms when nothing happens. *Failed*: requests without an answer in all \
         runs together;\n*delayed*: those that were answered after more than 50 ms. *Two holders*: the longest time for which two hosts \
         answered for the VIP.\n\n![gap by fault and system](failover.svg)\n"
    );
    for fault in &FAULTS {
        writeln!(text, "\n## {}\n", fault.name).unwrap();
        text += "| | gap, ms: least | median | most | failed | delayed | two holders, ms |\n|---|---|---|---|---|---|---|\n";
        for kind in &KINDS {
            if let Some(cell) = Cell::of(runs, fault.name, kind.name) {
                writeln!(text, "| {} | {} |", kind.name, cell.row()).unwrap();
            }
        }
    }
    text
}

fn plot(runs: &[Run], file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let lines = FAULTS.len() * (KINDS.len() + 1);
    let mut chart = ChartBuilder::on(&root)
        .caption("Longest time without an answer: least, median, most", ("sans-serif", 20))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(190)
        .build_cartesian_2d((1.0..10_000.0).log_scale(), 0..lines)?;
    let name = |line: &usize| match line % (KINDS.len() + 1) {
        3 => FAULTS[FAULTS.len() - 1 - line / (KINDS.len() + 1)].name.to_owned(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(lines)
        .y_label_formatter(&name)
        .x_desc("milliseconds")
        .label_style(("sans-serif", 14))
        .draw()?;
    for ((kind, color), index) in KINDS.iter().zip(COLORS).zip(1..) {
        let cells = FAULTS.iter().rev().enumerate().filter_map(|(row, fault)| {
            let line = (row + 1) * (KINDS.len() + 1) - index;
            Some((line, Cell::of(runs, fault.name, kind.name)?.three()))
        });
        let cells: Vec<(usize, [f64; 3])> = cells.collect();
        let range = |(line, [least, _, most]): &(usize, [f64; 3])| {
            PathElement::new(vec![(*least, *line), (*most, *line)], color.stroke_width(3))
        };
        chart.draw_series(cells.iter().map(range))?;
        let median =
            |(line, [_, median, _]): &(usize, [f64; 3])| Circle::new((*median, *line), 4, color.filled());
        chart
            .draw_series(cells.iter().map(median))?
            .label(kind.name)
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK)
        .label_font(("sans-serif", 14))
        .draw()?;
    root.present()?;
    Ok(())
}
