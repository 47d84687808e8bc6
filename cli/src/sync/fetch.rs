//! Asking a source for everything that `secrets.yml` names: one request for each folder.

use crate::config::secrets::{Mapping, Secrets};
use crate::error::Result;
use crate::infisical::secret::SecretValue;
use crate::infisical::source::{ProjectRef, Query, Secret, Source};
use std::collections::BTreeMap;

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
/// request serves all secrets of an environment, folder, set of tags and way of expanding.
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
        let mut found: BTreeMap<String, Vec<Secret>> = BTreeMap::new();
        for secret in source.list(&query)? {
            found.entry(secret.name.clone()).or_default().push(secret);
        }
        for (number, (mapping, answer)) in secrets.all().iter().zip(&mut answers).enumerate() {
            if self::query(project, mapping) != query {
                continue;
            }
            let of_name = found.get(&mapping.name).map(Vec::as_slice).unwrap_or_default();
            *answer = meant(of_name, &query)
                .map_err(|what| secrets.refuse(number, "name", &what))?
                .map_or(Answer::Missing, answered);
        }
        asked.push(query);
    }
    Ok(answers)
}

/// Picks the secret that is meant among those of one name: the folder's own before one further
/// down; of several further down none can be told to be the right one.
fn meant<'a>(
    of_name: &'a [Secret],
    query: &Query,
) -> std::result::Result<Option<&'a Secret>, String> {
    let own = of_name.iter().find(|secret| secret.path == query.path);
    match (own, of_name) {
        (Some(own), _) => Ok(Some(own)),
        (None, []) => Ok(None),
        (None, [only]) => Ok(Some(only)),
        (None, [first, second, ..]) => Err(format!(
            "'{}' is in '{}' and in '{}': say with 'path' which one is meant",
            first.name, first.path, second.path
        )),
    }
}

fn answered(secret: &Secret) -> Answer {
    if secret.hidden {
        return Answer::Hidden;
    }
    Answer::Value(SecretValue::from(secret.value.expose().to_owned()))
}

fn query(project: &ProjectRef, mapping: &Mapping) -> Query {
    let folder = mapping.folder.trim_end_matches('/');
    Query {
        project: project.clone(),
        environment: mapping.environment.clone(),
        path: if folder.is_empty() { "/".to_owned() } else { folder.to_owned() },
        recursive: mapping.recursive,
        expand: mapping.expand,
        imports: true,
        tags: mapping.tags.clone(),
    }
}
