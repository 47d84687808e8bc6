//! Asking a source for everything that `secrets.yml` names: one request for each folder.

use crate::config::secrets::{Mapping, Secrets};
use crate::error::Result;
use crate::infisical::secret::SecretValue;
use crate::infisical::source::{ProjectRef, Query, Source};

/// What the source says about one secret.
pub(crate) enum Answer {
    /// Its value.
    Value(SecretValue),
    /// There is no such secret.
    Missing,
    /// It exists, and whoever is logged in may not read it.
    Hidden,
}

/// Fetches all secrets; the answers are in the order of the file. Nothing is asked twice: one
/// request serves all secrets of an environment, folder and way of expanding.
pub(crate) fn all(
    source: &mut dyn Source,
    project: &ProjectRef,
    secrets: &Secrets,
) -> Result<Vec<Answer>> {
    let mut answers: Vec<Answer> = secrets.all().iter().map(|_| Answer::Missing).collect();
    let mut asked: Vec<Query> = Vec::new();
    for mapping in secrets.all() {
        let query = query(project, mapping);
        if asked.contains(&query) {
            continue;
        }
        for found in source.list(&query)? {
            let wanted = secrets.all().iter().zip(&mut answers).filter(|(mapping, answer)| {
                matches!(answer, Answer::Missing)
                    && mapping.name == found.name
                    && self::query(project, mapping) == query
            });
            for (_, answer) in wanted {
                *answer = if found.hidden {
                    Answer::Hidden
                } else {
                    Answer::Value(SecretValue::from(found.value.expose().to_owned()))
                };
            }
        }
        asked.push(query);
    }
    Ok(answers)
}

fn query(project: &ProjectRef, mapping: &Mapping) -> Query {
    let folder = mapping.folder.trim_end_matches('/');
    Query {
        project: project.clone(),
        environment: mapping.environment.clone(),
        path: if folder.is_empty() { "/".to_owned() } else { folder.to_owned() },
        recursive: false,
        expand: mapping.expand,
        imports: true,
        tags: Vec::new(),
    }
}
