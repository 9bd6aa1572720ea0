//! Dispatches in parts: grids longer than a side may be, work longer than a dispatch may take, and tasks so much smaller than others that
//! the grid would be idle for them.
//!
//! A cut lies between workgroups, never inside one, and a workgroup knows its own numbers wherever its dispatch begins: what is
//! cut has the bits of the whole.

use std::ops::Range;

use super::pace::Rate;

/// What one task of a dispatch comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Workgroups.
    pub workgroups: u32,
    /// Arithmetic operations, a multiply-add counting two.
    pub flops: u64,
    /// Bytes that cross memory.
    pub bytes: u64,
}

/// Where a shader may be cut: between what it reads the beginning of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cuts {
    /// Between workgroups of a task.
    pub workgroups: bool,
    /// Between tasks.
    pub tasks: bool,
}

/// A part of a dispatch: neighbouring tasks with all their workgroups, or some workgroups of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece {
    /// First task.
    pub task: u32,
    /// Number of tasks.
    pub tasks: u32,
    /// First workgroup of each.
    pub workgroup: u32,
    /// Number of workgroups of each.
    pub workgroups: u32,
    /// Estimated time.
    pub seconds: f64,
}

impl Piece {
    /// The piece in parts of about equal length, each of which lasts at most `most` seconds or is one workgroup.
    fn by_workgroups(self, most: f64) -> impl Iterator<Item = Piece> {
        let all = self.workgroups.max(1);
        let longest = (f64::from(all) * most / self.seconds).clamp(1.0, f64::from(all)) as u32;
        let length = all.div_ceil(all.div_ceil(longest));
        (0..self.workgroups).step_by(length as usize).map(move |from| {
            let workgroups = length.min(all - from);
            Piece {
                workgroup: from,
                workgroups,
                seconds: self.seconds * f64::from(workgroups) / f64::from(all),
                ..self
            }
        })
    }
}

/// Workgroups that find nothing to do for which a dispatch more is no loss: a software adapter takes a fifth of a microsecond for one, and some
/// 50 for a dispatch; of both a GPU takes a small part.
const IDLE: u64 = 128;

/// Ranges of tasks, the largest first, whose grids leave few workgroups idle. A grid is as long as its longest task for all of them.
fn by_size(tasks: &[Load]) -> Vec<Range<usize>> {
    let (mut ranges, mut from) = (vec![], 0);
    for at in 1..tasks.len() {
        // What would be idle less for all that follow, if they are no larger.
        let fewer = tasks[from].workgroups.saturating_sub(tasks[at].workgroups);
        if u64::from(fewer) * (tasks.len() - at) as u64 > IDLE {
            ranges.push(from..at);
            from = at;
        }
    }
    ranges.push(from..tasks.len());
    ranges
}

/// A dispatch in pieces of at most `most` seconds and with few idle workgroups, as far as it can be cut.
pub(super) fn cut(tasks: &[Load], rate: Rate, most: f64, cuts: Cuts) -> Vec<Piece> {
    if !cuts.tasks {
        return by_time(tasks, rate, most, cuts);
    }
    let moved = |range: Range<usize>| {
        let first = range.start as u32;
        let pieces = by_time(&tasks[range], rate, most, cuts).into_iter();
        pieces.map(move |piece| Piece { task: first + piece.task, ..piece })
    };
    by_size(tasks).into_iter().flat_map(moved).collect()
}

/// A dispatch in pieces of at most `most` seconds, as far as it can be cut.
fn by_time(tasks: &[Load], rate: Rate, most: f64, cuts: Cuts) -> Vec<Piece> {
    let workgroups = tasks.iter().map(|task| task.workgroups).max().unwrap_or(0);
    let seconds = rate.dispatch() + tasks.iter().map(|task| rate.seconds(task)).sum::<f64>();
    let whole = Piece { task: 0, tasks: tasks.len() as u32, workgroup: 0, workgroups, seconds };
    match cuts {
        _ if seconds <= most => vec![whole],
        Cuts { tasks: true, workgroups } => by_tasks(tasks, rate, most, workgroups),
        Cuts { tasks: false, workgroups: true } => whole.by_workgroups(most).collect(),
        Cuts { tasks: false, workgroups: false } => vec![whole],
    }
}

fn by_tasks(tasks: &[Load], rate: Rate, most: f64, cut_workgroups: bool) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = vec![];
    for (task, load) in (0..).zip(tasks) {
        let seconds = rate.seconds(load);
        match pieces.last_mut() {
            // What does not begin with the first workgroup is the rest of a task that was too long by itself.
            Some(last) if last.workgroup == 0 && last.seconds + seconds <= most => {
                last.tasks += 1;
                last.workgroups = last.workgroups.max(load.workgroups);
                last.seconds += seconds;
            }
            _ => {
                let own = Piece {
                    task,
                    tasks: 1,
                    workgroup: 0,
                    workgroups: load.workgroups,
                    seconds: rate.dispatch() + seconds,
                };
                if cut_workgroups { pieces.extend(own.by_workgroups(most)) } else { pieces.push(own) }
            }
        }
    }
    pieces
}

/// Sides of a grid of `workgroups` workgroups, of which none is longer than `most` as long as `workgroups` is at most its square: as few
/// rows as will do, all but the last of them full.
pub(super) fn fold(workgroups: u32, most: u32) -> [u32; 2] {
    let rows = workgroups.div_ceil(most.max(1)).max(1);
    [workgroups.div_ceil(rows), rows]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn folding_wastes_next_to_nothing() {
        let most = 65_535u32;
        let lengths = [1, 2, 65_535, 65_536, 65_537, 131_070, 131_071, 200_003, 1 << 20, 10_000_019, 4_000_000_007];
        for workgroups in lengths.into_iter().chain((1..4_000).map(|i| i * 65_521)) {
            let [x, y] = fold(workgroups, most);
            assert!(x <= most && y <= most, "{workgroups}: {x} x {y}");
            let all = u64::from(x) * u64::from(y);
            let waste = all - u64::from(workgroups);
            assert!(waste < u64::from(y) && waste * 100 <= u64::from(workgroups), "{workgroups}: {x} x {y}");
        }
        assert_eq!((fold(0, most), fold(65_536, most), fold(7, 3)), ([0, 1], [32_768, 2], [3, 3]));
    }

    const RATE: Rate = Rate::new(1e3, 1e6);

    #[test]
    fn cuts_between_tasks_and_inside_long_ones() {
        let load = |workgroups, flops| Load { workgroups, flops, bytes: 0 };
        let tasks = [load(10, 100), load(20, 200), load(7, 1_000), load(1, 900), load(3, 100)];
        let places = |cuts| {
            let pieces = cut(&tasks, RATE, 0.4, cuts);
            pieces.iter().map(|p| [p.task, p.tasks, p.workgroup, p.workgroups]).collect::<Vec<_>>()
        };
        let both = Cuts { workgroups: true, tasks: true };
        let all = [[0, 2, 0, 20], [2, 1, 0, 2], [2, 1, 2, 2], [2, 1, 4, 2], [2, 1, 6, 1], [3, 1, 0, 1], [4, 1, 0, 3]];
        assert_eq!(places(both), all);
        let apart = [[0, 2, 0, 20], [2, 1, 0, 7], [3, 1, 0, 1], [4, 1, 0, 3]];
        assert_eq!(places(Cuts { workgroups: false, tasks: true }), apart);
        // A workgroup of each of the tasks takes 0.115 seconds.
        let across = (0..7).map(|i| [0, 5, 3 * i, 3.min(20 - 3 * i)]).collect::<Vec<_>>();
        assert_eq!(places(Cuts { workgroups: true, tasks: false }), across);
        assert_eq!(places(Cuts { workgroups: false, tasks: false }), [[0, 5, 0, 20]]);
        assert_eq!(cut(&tasks, RATE, 2.5, both).len(), 1);
        assert_eq!(cut(&[], RATE, 2.5, both)[0].tasks, 0);
    }

    #[test]
    fn small_tasks_have_a_grid_of_their_own() {
        let load = |workgroups| Load { workgroups, flops: 0, bytes: 0 };
        let ranges = |sizes: &[u32]| {
            let loads: Vec<Load> = sizes.iter().map(|&size| load(size)).collect();
            by_size(&loads).into_iter().map(|range| [range.start, range.end]).collect::<Vec<_>>()
        };
        assert_eq!(ranges(&[5000, 40, 30, 2, 1]), [[0, 1], [1, 5]]);
        assert_eq!(ranges(&[5000, 4990, 40, 30]), [[0, 2], [2, 4]]);
        assert_eq!(ranges(&[100, 99, 50, 40]), [[0, 4]], "no more than a dispatch is worth");
        assert_eq!(ranges(&[3, 5000, 7]), [[0, 3]], "only what is sorted is parted");
        assert_eq!((ranges(&[9]), ranges(&[])), (vec![[0, 1]], vec![[0, 0]]));
        let tasks = [5000, 40, 30].map(load);
        let places =
            |cuts| cut(&tasks, RATE, 10.0, cuts).iter().map(|p| [p.task, p.tasks, p.workgroups]).collect::<Vec<_>>();
        assert_eq!(places(Cuts { workgroups: false, tasks: true }), [[0, 1, 5000], [1, 2, 40]]);
        assert_eq!(places(Cuts { workgroups: false, tasks: false }), [[0, 3, 5000]]);
    }

    proptest! {
        #[test]
        fn every_workgroup_runs_once_and_none_too_long(
            list in prop::collection::vec((prop_oneof![1u32..40, 2_000u32..2_010], 0u64..3_000, 0u64..3_000_000), 1..12),
            most in 0.01f64..3.0,
            workgroups in any::<bool>(),
            tasks in any::<bool>(),
        ) {
            let loads: Vec<Load> = list.iter().map(|&(workgroups, flops, bytes)| Load { workgroups, flops, bytes }).collect();
            let pieces = cut(&loads, RATE, most, Cuts { workgroups, tasks });
            for (task, load) in (0..).zip(&loads) {
                for workgroup in 0..load.workgroups {
                    let runs = |p: &&Piece| (p.task..p.task + p.tasks).contains(&task) && (p.workgroup..p.workgroup + p.workgroups).contains(&workgroup);
                    prop_assert_eq!(pieces.iter().filter(runs).count(), 1);
                }
            }
            for piece in &pieces {
                let whole = match (workgroups, tasks) {
                    (true, true) => piece.workgroups == 1 && piece.tasks == 1,
                    (true, false) => piece.workgroups == 1,
                    (false, true) => piece.tasks == 1,
                    (false, false) => pieces.len() == 1,
                };
                prop_assert!(piece.seconds <= most * 1.0001 || whole, "{piece:?}");
            }
        }
    }
}
