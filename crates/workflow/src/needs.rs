//! The graph of jobs: which need which.

use crate::model::Job;
use std::collections::{HashMap, HashSet, VecDeque};

/// Ids in lower case of the jobs that can ever begin: those that need nothing, or only such jobs.
pub(crate) fn reached(jobs: &[Job]) -> HashSet<String> {
    let mut waiting: HashMap<String, Vec<usize>> = HashMap::new();
    let mut open: Vec<usize> = vec![0; jobs.len()];
    for (index, job) in jobs.iter().enumerate() {
        open[index] = job.needs.len();
        for need in &job.needs {
            waiting
                .entry(need.job.to_ascii_lowercase())
                .or_default()
                .push(index);
        }
    }
    let mut ready: VecDeque<usize> = (0..jobs.len()).filter(|index| open[*index] == 0).collect();
    let mut reached = HashSet::new();
    while let Some(index) = ready.pop_front() {
        let id = jobs[index].id.to_ascii_lowercase();
        for next in waiting.remove(&id).unwrap_or_default() {
            open[next] = open[next].saturating_sub(1);
            if open[next] == 0 {
                ready.push_back(next);
            }
        }
        reached.insert(id);
    }
    reached
}

/// One ring of jobs that need each other, first and last the same; none where there is no ring.
pub(crate) fn cycle(jobs: &[Job], reached: &HashSet<String>) -> Option<Vec<String>> {
    let by_id: HashMap<String, &Job> = jobs
        .iter()
        .map(|job| (job.id.to_ascii_lowercase(), job))
        .collect();
    let mut without_ring = HashSet::new();
    for start in jobs {
        let mut id = start.id.to_ascii_lowercase();
        let mut path: Vec<String> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        while !reached.contains(&id) && !without_ring.contains(&id) {
            if let Some(&at) = places.get(&id) {
                let ring = path[at..].iter().chain([&id]);
                return Some(ring.filter_map(|id| Some(by_id.get(id)?.id.clone())).collect());
            }
            places.insert(id.clone(), path.len());
            path.push(id.clone());
            // A job that is never reached needs one that is not there, or one that is not reached.
            let next = by_id.get(&id).and_then(|job| {
                let mut needs = job.needs.iter().map(|need| need.job.to_ascii_lowercase());
                needs.find(|need| {
                    by_id.contains_key(need) && !reached.contains(need) && !without_ring.contains(need)
                })
            });
            match next {
                Some(next) => id = next,
                None => break,
            }
        }
        if let Some(last) = path.pop() {
            without_ring.insert(last);
        }
    }
    None
}
