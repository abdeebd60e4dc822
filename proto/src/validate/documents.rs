//! Checks of the commands that store what a page shows.

use super::interaction::target_errors;
use super::{FieldErrors, suffix};
use crate::visit::v1::{
    Clip, DumpPageSourceCommand, Margins, MhtmlCommand, PaperFormat, PdfCommand, ScreenshotCommand,
};
use crate::{InvalidPages, page_ranges};

const MAX_DEPTH: u32 = 20;
const MAX_PLACE: f64 = 1_000_000.0;
const MAX_SIDE: f64 = 16_384.0;
const MAX_RANGES: usize = 1024;
/// Least that is left of a sheet between its margins, in millimetres.
const LEAST_MM: f64 = 1.0;

pub(super) fn screenshot_errors(shot: &ScreenshotCommand, path: &str, errors: &mut FieldErrors) {
    suffix(&shot.suffix, &format!("{path}.suffix"), errors);
    if shot.quality > 100 {
        errors.push(format!("{path}.quality"), "1 to 100, or 0 for the default of 80");
    }
    let chosen = [shot.full_page, shot.element.is_some(), shot.clip.is_some()];
    if chosen.into_iter().filter(|set| *set).count() > 1 {
        errors.push(path, "set at most one of full_page, element, clip");
    }
    if let Some(target) = &shot.element {
        target_errors(target, &format!("{path}.element"), errors);
    }
    if let Some(Clip { x, y, width, height }) = shot.clip {
        for (name, value, least, most) in [
            ("x", x, 0.0, MAX_PLACE),
            ("y", y, 0.0, MAX_PLACE),
            ("width", width, 1.0, MAX_SIDE),
            ("height", height, 1.0, MAX_SIDE),
        ] {
            within(value, least, most, "CSS pixels", &format!("{path}.clip.{name}"), errors);
        }
    }
}

pub(super) fn source_errors(dump: &DumpPageSourceCommand, path: &str, errors: &mut FieldErrors) {
    suffix(&dump.suffix, &format!("{path}.suffix"), errors);
    if dump.max_depth > MAX_DEPTH {
        errors.push(format!("{path}.max_depth"), format!("1 to {MAX_DEPTH}, or 0 for 5"));
    }
    if dump.max_depth > 0 && !dump.recursive {
        errors.push(format!("{path}.max_depth"), "is for recursive dumps: leave it out, or set recursive");
    }
}

pub(super) fn mhtml_errors(mhtml: &MhtmlCommand, path: &str, errors: &mut FieldErrors) {
    suffix(&mhtml.suffix, &format!("{path}.suffix"), errors);
}

pub(super) fn pdf_errors(pdf: &PdfCommand, path: &str, errors: &mut FieldErrors) {
    suffix(&pdf.suffix, &format!("{path}.suffix"), errors);
    let mut fine = true;
    if let Some(size) = &pdf.paper_size {
        if pdf.paper() != PaperFormat::Unspecified {
            errors.push(format!("{path}.paper_size"), "set either paper or paper_size");
        }
        for (name, side) in [("width_mm", size.width_mm), ("height_mm", size.height_mm)] {
            fine &= within(side, 10.0, 5000.0, "mm", &format!("{path}.paper_size.{name}"), errors);
        }
    }
    if let Some(Margins { top_mm, right_mm, bottom_mm, left_mm }) = pdf.margins {
        let all =
            [("top_mm", top_mm), ("right_mm", right_mm), ("bottom_mm", bottom_mm), ("left_mm", left_mm)];
        for (name, margin) in all {
            fine &= within(margin, 0.0, 1000.0, "mm", &format!("{path}.margins.{name}"), errors);
        }
    }
    let sheet = pdf.sheet();
    let left = |side: f64, a: f64, b: f64| side - a - b >= LEAST_MM;
    let Margins { top_mm, right_mm, bottom_mm, left_mm } = sheet.margins;
    if fine && !(left(sheet.width_mm, left_mm, right_mm) && left(sheet.height_mm, top_mm, bottom_mm)) {
        errors.push(format!("{path}.margins"), "they leave less than 1 mm of the paper");
    }
    if pdf.scale != 0.0 {
        within(pdf.scale, 0.1, 2.0, "(0 means 1)", &format!("{path}.scale"), errors);
    }
    let ranges = match pdf.page_ranges.len() {
        0..=MAX_RANGES => page_ranges(&pdf.page_ranges).map(drop),
        _ => Err(InvalidPages(format!("at most {MAX_RANGES} bytes"))),
    };
    if let Err(wrong) = ranges {
        errors.push(format!("{path}.page_ranges"), wrong.to_string());
    }
}

/// Not a number is out of every range.
fn within(value: f64, least: f64, most: f64, unit: &str, path: &str, errors: &mut FieldErrors) -> bool {
    let fine = (least..=most).contains(&value);
    if !fine {
        errors.push(path, format!("{least} to {most} {unit}"));
    }
    fine
}
