//! The graph of jobs: which need which.

use crate::model::Job;
use std::collections::{HashMap, HashSet};

/// Ids in lower case of the jobs that can ever begin: those that need nothing, or only such jobs.
pub(crate) fn reached(jobs: &[Job]) -> HashSet<String> {
    let mut reached = HashSet::new();
    loop {
        let before = reached.len();
        for job in jobs {
            let ready = job
                .needs
                .iter()
                .all(|need| reached.contains(&need.job.to_ascii_lowercase()));
            if ready {
                reached.insert(job.id.to_ascii_lowercase());
            }
        }
        if reached.len() == before {
            return reached;
        }
    }
}

/// One ring of jobs that need each other, first and last the same; none where there is no ring.
pub(crate) fn cycle(jobs: &[Job]) -> Option<Vec<String>> {
    let by_id: HashMap<String, &Job> = jobs
        .iter()
        .map(|job| (job.id.to_ascii_lowercase(), job))
        .collect();
    let reached = reached(jobs);
    for start in jobs
        .iter()
        .filter(|job| !reached.contains(&job.id.to_ascii_lowercase()))
    {
        let mut path: Vec<&Job> = vec![start];
        // A walk longer than there are jobs has met one of them twice.
        while path.len() <= jobs.len() + 1 {
            let next = path.last()?.needs.iter().find_map(|need| {
                let id = need.job.to_ascii_lowercase();
                by_id.get(&id).filter(|_| !reached.contains(&id))
            });
            let Some(next) = next else { break };
            if let Some(at) = path.iter().position(|job| job.id == next.id) {
                let ring = path[at..].iter().chain([next]);
                return Some(ring.map(|job| job.id.clone()).collect());
            }
            path.push(next);
        }
    }
    None
}
