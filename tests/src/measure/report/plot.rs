//! Plots as SVG: the same data always gives the same bytes, and the background is part of the
//! picture, so that it can be read on any page.

use std::fmt::Debug;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// What is drawn of one router or curve.
type Paper<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const BACKGROUND: RGBColor = RGBColor(0xFC, 0xFC, 0xFA);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GRID: RGBColor = RGBColor(0xDA, 0xDA, 0xD4);
/// Colours that can be told apart by those who see fewer of them (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0x56, 0xB4, 0xE9),
];
const WIDTH: u32 = 960;
const BAR: u32 = 15;
/// Room for title and legend.
const HEAD: u32 = 66;
/// Room for the names of the scenarios.
const NAMES: u32 = 330;
/// Room for the axis below.
const FOOT: u32 = 50;

/// One bar: from the left end to `value`, and paler on to `beyond`.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Which of the entries of the legend.
    pub series: usize,
    /// Where it ends; nothing if there is no figure, which is said in its place.
    pub value: Option<f64>,
    /// Where its pale part ends.
    pub beyond: Option<f64>,
    /// What stands behind it.
    pub label: String,
}

/// The bars of one scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name.
    pub title: String,
    /// From above.
    pub bars: Vec<Bar>,
}

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Its name.
    pub title: String,
    /// From the left.
    pub points: Vec<(f64, f64)>,
}

/// Horizontal bars on a logarithmic scale.
///
/// # Errors
/// Fails if it cannot be drawn.
pub fn bars(title: &str, unit: &str, legend: &[String], groups: &[Group]) -> Result<String> {
    // A group is as high as its bars and a gap.
    let rows: usize = groups.iter().map(|group| group.bars.len() + 1).sum();
    let height = HEAD + FOOT + BAR * u32::try_from(rows)?;
    let values = groups.iter().flat_map(|group| &group.bars);
    let values = values.flat_map(|bar| bar.value.into_iter().chain(bar.beyond));
    let (least, greatest) = decades(values);
    draw(height, |paper| {
        let mut chart = ChartBuilder::on(paper)
            .margin_top(HEAD)
            .margin_right(160)
            .x_label_area_size(FOOT)
            .y_label_area_size(NAMES)
            .build_cartesian_2d((least..greatest).log_scale(), 0f64..rows as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .max_light_lines(0)
            .y_labels(0)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .x_desc(unit)
            .x_label_formatter(&|value| short(*value))
            .label_style(font(15))
            .axis_desc_style(font(15))
            .draw()?;
        let mut above = rows as f64;
        for group in groups {
            let middle = above - 0.5 - group.bars.len() as f64 / 2.0;
            let (left, at) = chart.backend_coord(&(least, middle));
            let name = font(15).pos(Pos::new(HPos::Right, VPos::Center));
            paper.draw_text(&group.title, &name, (left - 8, at))?;
            for (row, bar) in group.bars.iter().enumerate() {
                let top = above - 0.5 - row as f64;
                let rectangle =
                    |to: f64, style| Rectangle::new([(least, top - 0.9), (to, top - 0.1)], style);
                let colour = colour(bar.series);
                if let Some(beyond) = bar.beyond {
                    chart.draw_series([rectangle(beyond, colour.mix(0.35).filled())])?;
                }
                if let Some(value) = bar.value {
                    chart.draw_series([rectangle(value, colour.filled())])?;
                }
                let end = bar.beyond.or(bar.value).unwrap_or(least);
                let (right, at) = chart.backend_coord(&(end, top - 0.5));
                let style = font(14).pos(Pos::new(HPos::Left, VPos::Center));
                paper.draw_text(&bar.label, &style, (right + 4, at))?;
            }
            above -= group.bars.len() as f64 + 1.0;
        }
        head(paper, title, legend)
    })
}

/// Lines on two logarithmic scales.
///
/// # Errors
/// Fails if it cannot be drawn.
pub fn lines(title: &str, x_unit: &str, y_unit: &str, curves: &[Curve]) -> Result<String> {
    let points = || curves.iter().flat_map(|curve| curve.points.iter().copied());
    let (left, right) = decades(points().map(|(x, _)| x));
    let (least, greatest) = decades(points().map(|(_, y)| y));
    let legend: Vec<String> = curves.iter().map(|curve| curve.title.clone()).collect();
    draw(480, |paper| {
        let mut chart = ChartBuilder::on(paper)
            .margin_top(HEAD)
            .margin_right(30)
            .x_label_area_size(FOOT)
            .y_label_area_size(70)
            .build_cartesian_2d((left..right).log_scale(), (least..greatest).log_scale())?;
        chart
            .configure_mesh()
            .max_light_lines(0)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .x_desc(x_unit)
            .y_desc(y_unit)
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .label_style(font(15))
            .axis_desc_style(font(15))
            .draw()?;
        for (series, curve) in curves.iter().enumerate() {
            let colour = colour(series);
            // A scale of decades has no zero.
            let visible = curve.points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0);
            let points = visible.copied();
            chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?;
            chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled())))?;
        }
        head(paper, title, &legend)
    })
}

/// Title, and which colour is whose.
fn head(paper: &Paper<'_>, title: &str, legend: &[String]) -> Drawn {
    paper.draw_text(title, &font(21), (16, 12))?;
    let mut left = 16;
    for (series, name) in legend.iter().enumerate() {
        let square = [(left, 42), (left + 12, 54)];
        paper.draw(&Rectangle::new(square, colour(series).filled()))?;
        let style = font(15).pos(Pos::new(HPos::Left, VPos::Center));
        paper.draw_text(name, &style, (left + 17, 48))?;
        // Nobody knows the reader's font; this is wide enough for any.
        left += 42 + 7 * i32::try_from(name.chars().count()).unwrap_or(0);
    }
    Ok(())
}

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn draw(height: u32, picture: impl FnOnce(&Paper<'_>) -> Drawn) -> Result<String> {
    let mut svg = String::new();
    {
        let paper = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let drawn = paper.fill(&BACKGROUND).map_err(Into::into);
        drawn
            .and_then(|()| picture(&paper))
            .and_then(|()| Ok(paper.present()?))
            .map_err(|error| anyhow!("cannot draw: {error}"))?;
    }
    Ok(svg)
}

fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn colour(series: usize) -> RGBColor {
    COLOURS.get(series % COLOURS.len()).copied().unwrap_or(INK)
}

/// The whole decades in which all values are; at least one.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let logs = values.filter(|value| *value > 0.0).map(f64::log10);
    let (least, greatest) = logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), log| {
        (least.min(log), most.max(log))
    });
    if least > greatest {
        return (1.0, 10.0);
    }
    let (least, greatest) = (least.floor(), greatest.ceil());
    // A bar that ends where the scale begins could not be seen.
    (10f64.powf(least), 10f64.powf(greatest.max(least + 1.0)))
}

/// 1,000 as 1k.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    // Powers of ten come with the errors of logarithms.
    format!("{}{unit}", (value * 1e6).round() / 1e6)
}
