//! Which service it was: scores of series taken together, and what those who call a service say of it.

/// Series that a group counts by: a service with many others at rest is no better off for them.
const TOP: usize = 3;
/// The part of a score that the callers decide about.
const OF_CALLERS: f64 = 0.25;

/// One score a group, 0 to 1: the mean of the three largest of its members' [`super::Change::score`]s, missing ones
/// being 0. `members` are scores and the number of the group that each is of, below `groups`.
pub fn group_scores(groups: usize, members: impl IntoIterator<Item = (usize, f64)>) -> Vec<f64> {
    let mut tops = vec![[0.0; TOP]; groups];
    for (group, score) in members {
        insert(&mut tops[group], score);
    }
    tops.iter().map(|top| top.iter().sum::<f64>() / TOP as f64).collect()
}

/// `top` stays sorted, the largest first; the least makes room.
fn insert(top: &mut [f64; TOP], mut score: f64) {
    for place in top {
        if score > *place {
            std::mem::swap(place, &mut score);
        }
    }
}

/// The scores `own` of groups once it is known who calls whom: all of it where a caller's own score is 1, three quarters
/// where no caller changed or there is none. `calls` are caller and callee, as places in `own`; twice is as good as once.
pub fn with_callers(own: &[f64], calls: &[(usize, usize)]) -> Vec<f64> {
    let mut callers = vec![0.0_f64; own.len()];
    for &(caller, callee) in calls {
        callers[callee] = callers[callee].max(own[caller]);
    }
    let weigh = |(own, caller): (&f64, f64)| own * (1.0 - OF_CALLERS + OF_CALLERS * caller);
    own.iter().zip(callers).map(weigh).collect()
}

/// Puts the highest score first; equals by name.
pub fn rank_groups<N: Ord>(groups: &mut [(N, f64)]) {
    groups.sort_by(|(name, a), (other, b)| b.total_cmp(a).then_with(|| name.cmp(other)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: &[f64], expected: &[f64]) -> bool {
        found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12)
    }

    #[test]
    fn groups_count_by_their_three_largest() {
        let table: [(&[f64], f64); 5] = [
            (&[], 0.0),
            (&[0.9], 0.3),
            (&[0.3, 0.6, 0.9], 0.6),
            (&[0.1, 0.9, 0.2, 0.3, 0.6, 0.0], 0.6),
            (&[0.5, 0.5, 0.5, 0.5], 0.5),
        ];
        let members = table.iter().enumerate().flat_map(|(group, (scores, _))| scores.iter().map(move |&x| (group, x)));
        let found = group_scores(table.len(), members);
        assert!(near(&found, &table.map(|(_, expected)| expected)), "{found:?}");
    }

    #[test]
    fn callers_that_changed_raise_whom_they_call() {
        let own = [0.8, 0.8, 0.4, 0.0];
        let table = [
            (vec![], [0.6, 0.6, 0.3, 0.0]),
            (vec![(0, 1)], [0.6, 0.76, 0.3, 0.0]),
            (vec![(0, 1), (0, 1), (2, 1)], [0.6, 0.76, 0.3, 0.0]),
            (vec![(3, 1), (0, 3)], [0.6, 0.6, 0.3, 0.0]),
            (vec![(0, 1), (1, 0), (0, 2)], [0.76, 0.76, 0.38, 0.0]),
        ];
        for (calls, expected) in table {
            let found = with_callers(&own, &calls);
            assert!(near(&found, &expected), "{calls:?}: {found:?}");
        }
    }

    #[test]
    fn the_order_is_by_score_then_name() {
        let mut rows = [("c", 0.2), ("b", 0.9), ("a", 0.2), ("d", 0.5)];
        for _ in 0..rows.len() {
            rank_groups(&mut rows);
            assert_eq!(rows.map(|(name, _)| name), ["b", "d", "a", "c"]);
            rows.rotate_left(1);
        }
    }
}
