//! "Did you mean": the nearest known word by edit distance.

/// The known word that `given` most likely misspells: the nearest within a third of its length
/// (at least one edit, at most three; a swap of neighbours is one edit, case is ignored), else the
/// only one that it abbreviates. `None` if nothing is near.
pub(super) fn nearest<'a>(
    given: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let given = given.to_lowercase();
    let length = given.chars().count();
    // The table of distances is quadratic; no known word is that long anyway.
    if length == 0 || length > 64 {
        return None;
    }
    let reach = (length / 3).clamp(1, 3);
    let mut best: Option<(usize, &str)> = None;
    let mut abbreviated = Vec::new();
    for word in known {
        let distance = distance(&given, &word.to_lowercase());
        if distance <= reach && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, word));
        }
        if length >= 2 && word.starts_with(given.as_str()) {
            abbreviated.push(word);
        }
    }
    match (best, abbreviated.as_slice()) {
        (Some((_, word)), _) => Some(word),
        (None, [only]) => Some(only),
        _ => None,
    }
}

/// Edits (insert, delete, replace, swap of neighbours) that turn one word into the other: the
/// "optimal string alignment" distance, three rows at a time.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (row, letter) in from.chars().enumerate() {
        let mut current = Vec::with_capacity(last.len());
        let mut left = row + 1;
        current.push(left);
        for (column, (other, pair)) in to.iter().zip(last.windows(2)).enumerate() {
            let &[diagonal, above] = pair else { continue };
            let mut least = (left + 1).min(above + 1);
            least = least.min(diagonal + usize::from(letter != *other));
            let swapped = column.checked_sub(1).and_then(|at| {
                let crossed = to.get(at) == Some(&letter) && previous == Some(*other);
                crossed.then(|| before_last.get(at).map(|cost| cost + 1))?
            });
            left = swapped.map_or(least, |cost| least.min(cost));
            current.push(left);
        }
        previous = Some(letter);
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distances_are_counted_in_edits() {
        for (from, to, edits) in [
            ("bind", "bind", 0),
            ("bnid", "bind", 1),
            ("bin", "bind", 1),
            ("binde", "bind", 1),
            ("bend", "bind", 1),
            ("", "bind", 4),
            ("bind", "", 4),
            ("kitten", "sitting", 3),
            ("größe", "grosse", 3),
        ] {
            assert_eq!(distance(from, to), edits, "{from} -> {to}");
        }
    }

    #[test]
    fn the_nearest_word_wins_and_far_ones_are_silent() {
        let known = ["publish", "subscribe", "call", "register"];
        assert_eq!(nearest("publsih", known), Some("publish"));
        assert_eq!(nearest("PUBLISH", known), Some("publish"));
        assert_eq!(nearest("sub", known), Some("subscribe"));
        assert_eq!(nearest("write", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
        assert_eq!(nearest("re", ["register", "release"]), None, "ambiguous");
    }
}
