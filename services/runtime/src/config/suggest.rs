/// The candidate that is most probably meant by `given`, if one is near enough.
pub(super) fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let limit = (given.chars().count() / 3).clamp(1, 4);
    candidates
        .map(|candidate| (distance(given, candidate), candidate))
        .filter(|(far, _)| *far <= limit)
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate.to_owned())
}

/// Edits (insert, delete, replace, swap of neighbours) from `a` to `b`; case and `-` versus `_` are free.
fn distance(a: &str, b: &str) -> usize {
    let fold = |text: &str| -> Vec<char> { text.to_lowercase().replace('-', "_").chars().take(64).collect() };
    let (a, b) = (fold(a), fold(b));
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_and_only_if_near() {
        let keys = || ["data_dir", "listen", "max_bytes"].into_iter();
        assert_eq!(nearest("dta_dir", keys()).as_deref(), Some("data_dir"));
        assert_eq!(nearest("data-dir", keys()).as_deref(), Some("data_dir"));
        assert_eq!(nearest("lisetn", keys()).as_deref(), Some("listen"));
        assert_eq!(nearest("colour", keys()), None);
    }
}
