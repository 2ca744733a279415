//! The place of the generated text in a page that is otherwise written by hand.

use anyhow::{Result, ensure};

/// What stands before it.
pub const BEGIN: &str = "<!-- measured: begin -->";
/// What stands behind it.
pub const END: &str = "<!-- measured: end -->";

/// The page with `text` between the markers.
///
/// # Errors
/// Fails if there is not exactly one pair of them.
pub fn replace(page: &str, text: &str) -> Result<String> {
    for marker in [BEGIN, END] {
        let count = page.matches(marker).count();
        ensure!(count == 1, "{marker} stands {count} times in the page");
    }
    let parts = page
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, behind)) = parts else {
        anyhow::bail!("{END} stands before {BEGIN}");
    };
    Ok(format!(
        "{before}{BEGIN}\n{}\n{END}{behind}",
        text.trim_end()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() -> Result<()> {
        let page = format!("# Head\n\n{BEGIN}\nold\n{END}\n\nmore\n");
        let new = replace(&page, "new\n")?;
        assert_eq!(new, format!("# Head\n\n{BEGIN}\nnew\n{END}\n\nmore\n"));
        assert_eq!(replace(&new, "new\n")?, new);
        Ok(())
    }

    #[test]
    fn a_page_without_its_markers_is_left_alone() {
        let pages = [
            "nothing".to_owned(),
            BEGIN.to_owned(),
            format!("{END}{BEGIN}"),
            format!("{BEGIN}{END}{BEGIN}{END}"),
        ];
        for page in pages {
            assert!(replace(&page, "new").is_err(), "{page}");
        }
    }
}
