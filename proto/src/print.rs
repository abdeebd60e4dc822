//! Paper: what a PDF is printed on, and which of its pages.

use crate::visit::v1::{Margins, PaperFormat, PdfCommand};

/// Margin where none is given, in millimetres.
const MARGIN_MM: f64 = 10.0;

/// A sheet of paper as it lies: turned where it is landscape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sheet {
    /// Millimetres.
    pub width_mm: f64,
    /// Millimetres.
    pub height_mm: f64,
    /// Empty edges.
    pub margins: Margins,
}

impl PdfCommand {
    /// The paper that it asks for.
    pub fn sheet(&self) -> Sheet {
        let (width, height) = match (&self.paper_size, self.paper()) {
            (Some(size), _) => (size.width_mm, size.height_mm),
            (None, PaperFormat::Unspecified | PaperFormat::Letter) => (215.9, 279.4),
            (None, PaperFormat::Legal) => (215.9, 355.6),
            (None, PaperFormat::Tabloid) => (279.4, 431.8),
            (None, PaperFormat::A3) => (297.0, 420.0),
            (None, PaperFormat::A4) => (210.0, 297.0),
            (None, PaperFormat::A5) => (148.0, 210.0),
        };
        let (width_mm, height_mm) = if self.landscape { (height, width) } else { (width, height) };
        let all =
            Margins { top_mm: MARGIN_MM, right_mm: MARGIN_MM, bottom_mm: MARGIN_MM, left_mm: MARGIN_MM };
        Sheet { width_mm, height_mm, margins: self.margins.unwrap_or(all) }
    }
}

/// Why a list of pages is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPages(pub String);

/// Reads "1-3, 5, 8-": each part as first and last page, both counted from 1; the last is `None` to the end. "" has no part.
///
/// # Errors
/// Which part is wrong.
pub fn page_ranges(text: &str) -> Result<Vec<(u32, Option<u32>)>, InvalidPages> {
    let page = |digits: &str| digits.trim().parse::<u32>().ok().filter(|page| *page > 0);
    let parts = text.split(',').filter(|_| !text.trim().is_empty());
    let read = |part: &str| {
        let range = match part.split_once('-') {
            None => page(part).map(|only| (only, Some(only))),
            Some((first, last)) if last.trim().is_empty() => page(first).map(|first| (first, None)),
            Some((first, last)) if first.trim().is_empty() => page(last).map(|last| (1, Some(last))),
            Some((first, last)) => page(first).zip(page(last)).map(|(first, last)| (first, Some(last))),
        };
        let range = range.filter(|(first, last)| last.is_none_or(|last| last >= *first));
        range.ok_or_else(|| InvalidPages(format!("{part:?} is no page and no range, as 2, 1-3, 8-")))
    };
    parts.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visit::v1::PaperSize;

    /// M21
    #[test]
    fn ranges_are_pages_from_one() {
        assert_eq!(page_ranges(""), Ok(vec![]));
        assert_eq!(
            page_ranges("1-3, 5,8-,-2"),
            Ok(vec![(1, Some(3)), (5, Some(5)), (8, None), (1, Some(2))])
        );
        for wrong in ["0", "3-1", "a", "1,,2", "-", "1-2-3"] {
            assert!(page_ranges(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn landscape_turns_the_paper() {
        let size = PaperSize { width_mm: 100.0, height_mm: 200.0 };
        let pdf = PdfCommand { landscape: true, paper_size: Some(size), ..PdfCommand::default() };
        let sheet = pdf.sheet();
        assert_eq!((sheet.width_mm, sheet.height_mm, sheet.margins.left_mm), (200.0, 100.0, MARGIN_MM));
        assert_eq!(PdfCommand::default().sheet().width_mm, 215.9);
    }
}
