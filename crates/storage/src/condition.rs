//! Conditional operations: RFC 9110 section 13, with R2's refinements.

use crate::ObjectInfo;

/// The conditions of a request. All must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// `If-Match`: one of these, compared strongly.
    pub if_match: Option<Vec<EtagMatch>>,
    /// `If-None-Match`: none of these, compared weakly.
    pub if_none_match: Option<Vec<EtagMatch>>,
    /// `If-Modified-Since`, in milliseconds since the Unix epoch.
    pub modified_since_ms: Option<u64>,
    /// `If-Unmodified-Since`, in milliseconds since the Unix epoch.
    pub unmodified_since_ms: Option<u64>,
    /// Times are compared as whole seconds, as HTTP's dates must be.
    pub whole_seconds: bool,
}

/// An entity tag in a condition, without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EtagMatch {
    /// `*`
    Any,
    /// `"tag"`
    Strong(String),
    /// `W/"tag"`
    Weak(String),
}

/// What the conditions say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Holds,
    /// The reader already has it (304 in HTTP, for reads only).
    NotModified,
    /// 412.
    Failed,
}

impl Conditions {
    /// True when there is no condition at all.
    pub fn is_empty(&self) -> bool {
        self.if_match.is_none()
            && self.if_none_match.is_none()
            && self.modified_since_ms.is_none()
            && self.unmodified_since_ms.is_none()
    }

    /// Judges the conditions in the order of RFC 9110 section 13.2.2: a date counts only where the matching entity
    /// tag condition is absent. Without an object, `If-Match` and `If-Modified-Since` fail.
    pub fn judge(&self, current: Option<&ObjectInfo>) -> Verdict {
        let Some(current) = current else {
            return if self.if_match.is_some() || self.modified_since_ms.is_some() {
                Verdict::Failed
            } else {
                Verdict::Holds
            };
        };
        let granule = if self.whole_seconds { 1000 } else { 1 };
        let uploaded = current.uploaded_ms / granule;
        match (&self.if_match, self.unmodified_since_ms) {
            (Some(tags), _) if !tags.iter().any(|tag| tag.matches(&current.etag, true)) => {
                return Verdict::Failed;
            }
            (None, Some(since)) if uploaded > since / granule => return Verdict::Failed,
            _ => {}
        }
        match (&self.if_none_match, self.modified_since_ms) {
            (Some(tags), _) if tags.iter().any(|tag| tag.matches(&current.etag, false)) => {
                Verdict::NotModified
            }
            (None, Some(since)) if uploaded <= since / granule => Verdict::NotModified,
            _ => Verdict::Holds,
        }
    }
}

impl EtagMatch {
    fn matches(&self, etag: &str, strongly: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Strong(tag) => tag == etag,
            Self::Weak(tag) => !strongly && tag == etag,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(etag: &str, uploaded_ms: u64) -> ObjectInfo {
        ObjectInfo {
            key: "k".into(),
            version: "v".into(),
            size: 1,
            etag: etag.into(),
            uploaded_ms,
            metadata: crate::Metadata::default(),
            checksums: vec![],
            parts: None,
        }
    }

    #[test]
    fn tags_win_over_dates_and_weak_tags_match_weakly_only() {
        let there = object("a", 5_500);
        let strong = |tag: &str| Some(vec![EtagMatch::Strong(tag.into())]);
        let weak = |tag: &str| Some(vec![EtagMatch::Weak(tag.into())]);
        let cases = [
            (
                Conditions {
                    if_match: strong("a"),
                    ..Default::default()
                },
                Verdict::Holds,
            ),
            (
                Conditions {
                    if_match: strong("b"),
                    ..Default::default()
                },
                Verdict::Failed,
            ),
            (
                Conditions {
                    if_match: weak("a"),
                    ..Default::default()
                },
                Verdict::Failed,
            ),
            (
                Conditions {
                    if_none_match: weak("a"),
                    ..Default::default()
                },
                Verdict::NotModified,
            ),
            (
                Conditions {
                    if_none_match: strong("b"),
                    ..Default::default()
                },
                Verdict::Holds,
            ),
            (
                Conditions {
                    if_match: strong("a"),
                    unmodified_since_ms: Some(1),
                    ..Default::default()
                },
                Verdict::Holds,
            ),
            (
                Conditions {
                    if_none_match: strong("b"),
                    modified_since_ms: Some(9_000),
                    ..Default::default()
                },
                Verdict::Holds,
            ),
            (
                Conditions {
                    modified_since_ms: Some(5_500),
                    ..Default::default()
                },
                Verdict::NotModified,
            ),
            (
                Conditions {
                    modified_since_ms: Some(5_499),
                    ..Default::default()
                },
                Verdict::Holds,
            ),
            (
                Conditions {
                    modified_since_ms: Some(5_000),
                    whole_seconds: true,
                    ..Default::default()
                },
                Verdict::NotModified,
            ),
            (
                Conditions {
                    unmodified_since_ms: Some(5_000),
                    whole_seconds: true,
                    ..Default::default()
                },
                Verdict::Holds,
            ),
            (
                Conditions {
                    unmodified_since_ms: Some(5_000),
                    ..Default::default()
                },
                Verdict::Failed,
            ),
        ];
        for (conditions, verdict) in cases {
            assert_eq!(conditions.judge(Some(&there)), verdict, "{conditions:?}");
        }
    }

    #[test]
    fn without_an_object_only_absence_can_hold() {
        let any = Some(vec![EtagMatch::Any]);
        let absent = Conditions {
            if_none_match: any.clone(),
            ..Default::default()
        };
        assert_eq!(absent.judge(None), Verdict::Holds);
        assert_eq!(absent.judge(Some(&object("a", 1))), Verdict::NotModified);
        let present = Conditions {
            if_match: any,
            ..Default::default()
        };
        assert_eq!(present.judge(None), Verdict::Failed);
        assert_eq!(present.judge(Some(&object("a", 1))), Verdict::Holds);
    }
}
