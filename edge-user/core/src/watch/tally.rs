//! How often something came, since when, and a bounded table of such counts.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::moment;
use crate::time::UnixMillis;

/// How often something came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// When first.
    #[serde(with = "moment")]
    pub first: UnixMillis,
    /// When last.
    #[serde(with = "moment")]
    pub last: UnixMillis,
}

impl Tally {
    /// It came once, now.
    #[must_use]
    pub fn once(now: UnixMillis) -> Self {
        Self { count: 1, first: now, last: now }
    }

    /// It comes again.
    pub fn again(&mut self, now: UnixMillis) {
        self.count = self.count.saturating_add(1);
        self.last = self.last.max(now);
    }
}

/// One row of a table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Row<K> {
    /// What came.
    pub what: K,
    /// How often, and when.
    #[serde(flatten)]
    pub tally: Tally,
}

/// Counts by `K`, of which at most `MAX` have a row. The rarest, and among those the longest unseen, make room, and
/// count among the others from then on: what comes often stays, and rows and others are always all that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table<K: Eq + Hash, const MAX: usize> {
    rows: HashMap<K, Tally>,
    others: u64,
}

impl<K: Eq + Hash, const MAX: usize> Default for Table<K, MAX> {
    fn default() -> Self {
        Self { rows: HashMap::new(), others: 0 }
    }
}

impl<K: Eq + Hash + Clone, const MAX: usize> Table<K, MAX> {
    /// Counts one.
    pub fn note(&mut self, what: K, now: UnixMillis) {
        if let Some(tally) = self.rows.get_mut(&what) {
            return tally.again(now);
        }
        if self.rows.len() >= MAX {
            let rarest = self.rows.iter().min_by_key(|(_, tally)| (tally.count, tally.last));
            if let Some((out, count)) = rarest.map(|(out, tally)| (out.clone(), tally.count)) {
                self.rows.remove(&out);
                self.others = self.others.saturating_add(count);
            }
        }
        self.rows.insert(what, Tally::once(now));
    }

    /// Counts so many among the others.
    pub fn note_others(&mut self, count: u64) {
        self.others = self.others.saturating_add(count);
    }

    /// All that came.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.rows.values().fold(self.others, |sum, tally| sum.saturating_add(tally.count))
    }

    /// The `most` that came most often, and how many came besides.
    #[must_use]
    pub fn top(&self, most: usize) -> (Vec<Row<K>>, u64) {
        let mut rows: Vec<Row<K>> =
            self.rows.iter().map(|(what, tally)| Row { what: what.clone(), tally: *tally }).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse((row.tally.count, row.tally.last)), row.tally.first));
        let below: u64 = rows.iter().skip(most).map(|row| row.tally.count).sum();
        rows.truncate(most);
        (rows, self.others.saturating_add(below))
    }

    /// Forgets what was not seen since `before`; it counts among the others.
    pub fn forget(&mut self, before: UnixMillis) {
        let mut gone: u64 = 0;
        self.rows.retain(|_, tally| {
            let stays = tally.last >= before;
            gone = gone.saturating_add(if stays { 0 } else { tally.count });
            stays
        });
        self.others = self.others.saturating_add(gone);
    }
}

/// A table as it is written: rows from the most frequent, and the others.
#[derive(Serialize, Deserialize)]
struct Written<K> {
    rows: Vec<Row<K>>,
    others: u64,
}

impl<K: Eq + Hash + Clone + Serialize, const MAX: usize> Serialize for Table<K, MAX> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (rows, others) = self.top(MAX);
        Written { rows, others }.serialize(to)
    }
}

impl<'de, K: Eq + Hash + Clone + Deserialize<'de>, const MAX: usize> Deserialize<'de> for Table<K, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Written { mut rows, others } = Written::<K>::deserialize(from)?;
        let beyond = rows.split_off(rows.len().min(MAX));
        let others = beyond.iter().fold(others, |sum, row| sum.saturating_add(row.tally.count));
        Ok(Self { rows: rows.into_iter().map(|row| (row.what, row.tally)).collect(), others })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: u64) -> UnixMillis {
        UnixMillis::from_secs(secs)
    }

    fn noted(table: &mut Table<String, 3>, what: &str, secs: u64) {
        table.note(what.to_owned(), at(secs));
    }

    #[test]
    fn what_comes_often_stays_however_many_come_once() {
        let mut table = Table::<String, 3>::default();
        for second in 0..5 {
            noted(&mut table, "often", second);
        }
        for second in 0..1000 {
            noted(&mut table, &format!("once {second}"), 10 + second);
        }
        let (rows, others) = table.top(1);
        assert_eq!((rows[0].what.as_str(), rows[0].tally.count), ("often", 5));
        assert_eq!(rows[0].tally.first, at(0));
        assert_eq!((others, table.total()), (1000, 1005));
        assert_eq!(table.top(3).0.len(), 3);
        assert_eq!(table.top(3).0[1].what, "once 999", "the latest of the rare");
    }

    #[test]
    fn a_table_reads_back_as_it_was_written_and_no_larger_than_it_may_be() {
        let mut table = Table::<String, 3>::default();
        for (what, second) in [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("d", 5)] {
            noted(&mut table, what, second);
        }
        let text = serde_json::to_string(&table).unwrap();
        assert!(text.contains(r#""what":"a","count":2,"first":"1970-01-01T00:00:01Z""#), "{text}");
        assert_eq!(serde_json::from_str::<Table<String, 3>>(&text).unwrap(), table);
        let smaller: Table<String, 1> = serde_json::from_str(&text).unwrap();
        assert_eq!((smaller.top(9).0.len(), smaller.total()), (1, table.total()));
    }

    #[test]
    fn what_was_not_seen_for_long_is_forgotten_but_still_counted() {
        let mut table = Table::<String, 3>::default();
        noted(&mut table, "old", 1);
        noted(&mut table, "new", 100);
        table.forget(at(50));
        assert_eq!(table.top(9).0.iter().map(|row| row.what.as_str()).collect::<Vec<_>>(), ["new"]);
        assert_eq!(table.total(), 2);
    }
}
