//! What grows, as a table and as a plot.

use super::scale::{Cost, Figures};
use plotters::prelude::*;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const SIZE: (u32, u32) = (960, 420);
const BLUE: RGBColor = RGBColor(0, 114, 178);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const RED: RGBColor = RGBColor(213, 94, 0);

type Points = Vec<(f64, f64)>;

/// Into the documentation, if it is the whole.
pub fn write(all: &[Figures], whole: bool) {
    let documented = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks");
    let dir = if whole { documented } else { PathBuf::from(env!("CARGO_TARGET_TMPDIR")) };
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("growth.md"), table(all)).unwrap();
    plot(all, &dir.join("growth.svg")).unwrap();
    println!("written to {}", dir.display());
}

fn table(all: &[Figures]) -> String {
    let mut text = "# What grows\n\nWritten by `make bench-scale`: one cluster at a time on two processors, at rest for 20 s. \
        *Voter* is one that owns nothing,\n*member* does not vote. The interfaces carry adverts, answers, QUIC's acknowledgements, \
        gossip and ARP.\n\n\
        ![CPU by nodes and by VIPs](growth.svg)\n\n\
        | nodes | VIPs | who | CPU, % of a core | resident, MB | packets/s out | in | kbit/s out | wake-ups/s |\n\
        |---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for of in all {
        let rows = [("owner", Some(of.owner)), ("voter", Some(of.another)), ("member", of.last)];
        for (who, cost) in rows.into_iter().filter_map(|(who, cost)| Some((who, cost?))) {
            let Cost { cpu_percent, resident_mb, packets_out, packets_in, kbit_out, wakeups } = cost;
            writeln!(
                text,
                "| {} | {} | {who} | {cpu_percent:.2} | {resident_mb:.1} | {packets_out:.0} | {packets_in:.0} | {kbit_out:.0} | {wakeups:.0} |",
                of.nodes, of.vips
            )
            .unwrap();
        }
    }
    text += "\nThe VIPs of one node, announced by the next one, in ms after its stop or after it was cut off:\n\n\
        | nodes | VIPs | stop: the first | all | cut off: the first | all |\n|---|---|---|---|---|---|\n";
    for Figures { nodes, vips, stopped, cut_off, .. } in all {
        writeln!(
            text,
            "| {nodes} | {vips} | {:.0} | {:.0} | {:.0} | {:.0} |",
            stopped.first, stopped.last, cut_off.first, cut_off.last
        )
        .unwrap();
    }
    text
}

#[allow(clippy::cast_precision_loss)]
fn points(all: &[Figures], x: fn(&Figures) -> usize, y: impl Fn(&Figures) -> Option<Cost>) -> Points {
    let mut points: Points = all.iter().filter_map(|of| Some((x(of) as f64, y(of)?.cpu_percent))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn plot(all: &[Figures], file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(SIZE.0 / 2);
    // The size that one plot varies is the usual one in the other.
    let of_vips = |of: &Figures| Some(of.owner).filter(|_| of.nodes == 3);
    let others_of_vips = |of: &Figures| Some(of.another).filter(|_| of.nodes == 3);
    let of_nodes = |of: &Figures| Some(of.owner).filter(|_| of.vips == 1);
    let members = |of: &Figures| of.last.filter(|_| of.vips == 1);
    let by_vips = [
        ("owner", BLUE, points(all, |of| of.vips, of_vips)),
        ("voter", GREEN, points(all, |of| of.vips, others_of_vips)),
    ];
    let by_nodes = [
        ("owner, voter", BLUE, points(all, |of| of.nodes, of_nodes)),
        ("member", RED, points(all, |of| of.nodes, members)),
    ];
    draw(&left, "CPU, % of a core, by nodes (1 VIP)", 3.0..30.0, &by_nodes)?;
    draw(&right, "CPU, % of a core, by VIPs (3 nodes)", 1.0..1000.0, &by_vips)?;
    root.present()?;
    Ok(())
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    caption: &str,
    range: std::ops::Range<f64>,
    lines: &[(&str, RGBColor, Points)],
) -> Result<(), Box<dyn std::error::Error>> {
    let most = lines.iter().flat_map(|(_, _, points)| points).map(|point| point.1).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(40)
        .build_cartesian_2d(range.log_scale(), 0.0..most * 1.1)?;
    chart.configure_mesh().label_style(("sans-serif", 12)).draw()?;
    for (name, color, points) in lines {
        let color = *color;
        chart.draw_series([PathElement::new(points.clone(), color.stroke_width(2))])?;
        let dots = points.iter().map(|point| Circle::new(*point, 4, color.filled()));
        chart
            .draw_series(dots)?
            .label(*name)
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.9))
        .label_font(("sans-serif", 12))
        .draw()?;
    Ok(())
}
