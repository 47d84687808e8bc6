//! From a request to an answer, as Infisical gives it.

use super::http::{Seen, decode};
use super::world::{Folder, IDENTITY, Item, PROJECT_ID, PROJECT_SLUG, Refusal, World};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const HIDDEN: &str = "<hidden-by-infisical>";
const WHEN: &str = "2026-11-24T05:30:00.000Z";

/// How deep references may lead to further ones.
const DEEPEST: usize = 8;

/// A status and a body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

type Outcome = Result<Value, Answer>;

/// Answers a request.
pub(super) fn answer(world: &mut World, seen: &Seen) -> Answer {
    match route(world, seen) {
        Ok(value) => Answer { status: 200, body: value.to_string() },
        Err(answer) => answer,
    }
}

/// Makes an error as Infisical writes it.
pub(super) fn complaint(status: u16, error: &str, message: &str) -> Answer {
    let body = json!({"reqId": "req-1", "statusCode": status, "message": message, "error": error});
    Answer { status, body: body.to_string() }
}

fn invalid(field: &str, message: &str) -> Answer {
    let body = json!({
        "reqId": "req-1", "statusCode": 422, "error": "ValidationFailure",
        "message": [{"code": "invalid_type", "path": [field], "message": message}],
    });
    Answer { status: 422, body: body.to_string() }
}

fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::Unknown => complaint(401, "UnauthorizedError", "Invalid credentials"),
        Refusal::Expired => {
            complaint(403, "TokenError", "Your token has expired. Please re-authenticate.")
        }
        Refusal::Malformed => complaint(
            403,
            "TokenError",
            "The provided access token is malformed. Please use a valid token.",
        ),
    }
}

fn route(world: &mut World, seen: &Seen) -> Outcome {
    let path = seen.path.as_str();
    match (seen.method.as_str(), path) {
        ("POST", "/api/v1/auth/universal-auth/login") => {
            let body = body(seen)?;
            let token = world.log_in(&text(&body, "clientId")?, &text(&body, "clientSecret")?);
            Ok(granted(world, &token.map_err(refused)?))
        }
        ("POST", "/api/v1/auth/token/renew") => {
            let token = world.renew(&text(&body(seen)?, "accessToken")?);
            Ok(granted(world, &token.map_err(refused)?))
        }
        ("POST", "/api/v1/auth/token/revoke") => {
            world.revoke(&text(&body(seen)?, "accessToken")?).map_err(refused)?;
            Ok(json!({"message": "Successfully revoked access token"}))
        }
        ("GET", _) => get(world, seen),
        _ => Err(unknown(seen)),
    }
}

fn get(world: &World, seen: &Seen) -> Outcome {
    let path = seen.path.as_str();
    let slug = path.strip_prefix("/api/v1/projects/slug/").filter(|_| !world.v3_only);
    let v4 = path.strip_prefix("/api/v4/secrets").filter(|_| !world.v3_only);
    let v3 = path.strip_prefix("/api/v3/secrets/raw");
    if slug.or(v4).or(v3).is_none() {
        return Err(unknown(seen));
    }
    let token = seen.headers.get("authorization").and_then(|text| text.strip_prefix("Bearer "));
    let missing = || complaint(401, "UnauthorizedError", "Token missing");
    world.judge(token.ok_or_else(missing)?).map_err(refused)?;
    if world.outsider {
        return Err(complaint(403, "ForbiddenError", "You are not a member of this project"));
    }
    if let Some(slug) = slug {
        return match slug {
            PROJECT_SLUG => {
                Ok(json!({"id": PROJECT_ID, "_id": PROJECT_ID, "slug": slug, "name": "web"}))
            }
            _ => Err(complaint(404, "NotFound", &format!("Project with slug '{slug}' not found"))),
        };
    }
    let (rest, imports, names) = match (v4, v3) {
        (Some(rest), _) => (rest, "includeImports", &["projectId"][..]),
        (_, rest) => {
            (rest.unwrap_or_default(), "include_imports", &["workspaceId", "workspaceSlug"][..])
        }
    };
    let asked = Asked::read(seen, imports, names)?;
    match rest.strip_prefix('/').filter(|name| !name.is_empty()) {
        None => list(world, &asked),
        Some(name) => one(world, &asked, &decode(name, false).unwrap_or_default()),
    }
}

/// What a list or a lookup asks for.
#[allow(clippy::struct_excessive_bools, reason = "each is a parameter of the interface")]
struct Asked {
    environment: String,
    path: String,
    recursive: bool,
    imports: bool,
    expand: bool,
    view: bool,
    personal: bool,
    tags: Vec<String>,
}

impl Asked {
    fn read(seen: &Seen, imports: &str, projects: &[&str]) -> Result<Self, Answer> {
        let given = |name: &str| seen.query.get(name).filter(|value| !value.is_empty());
        let project = projects.iter().find_map(|name| given(name));
        match project.map(String::as_str) {
            None => return Err(invalid(projects[0], "Required")),
            Some(PROJECT_ID | PROJECT_SLUG) => {}
            Some(other) => {
                let words = format!("Project with ID '{other}' not found");
                return Err(complaint(404, "NotFound", &words));
            }
        }
        let flag = |name: &str, default: bool| match given(name).map(String::as_str) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(invalid(name, "Expected 'true' | 'false'")),
        };
        let path = given("secretPath").map_or("/", String::as_str);
        if !path.starts_with('/') {
            return Err(invalid("secretPath", "Must start with /"));
        }
        Ok(Self {
            environment: given("environment")
                .ok_or_else(|| invalid("environment", "Required"))?
                .clone(),
            path: if path == "/" { path.into() } else { path.trim_end_matches('/').into() },
            recursive: flag("recursive", false)?,
            // The defaults of the two versions differ.
            imports: flag(imports, imports == "includeImports")?,
            expand: flag("expandSecretReferences", imports == "includeImports")?,
            view: flag("viewSecretValue", true)?,
            personal: flag("includePersonalOverrides", imports != "includeImports")?,
            tags: given("tagSlugs")
                .map_or_else(Vec::new, |tags| tags.split(',').map(str::to_owned).collect()),
        })
    }

    fn is_below(&self, path: &str) -> bool {
        let top = self.path.trim_end_matches('/');
        path == self.path
            || (self.recursive && path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/')))
    }
}

fn list(world: &World, asked: &Asked) -> Outcome {
    let own = folder(world, &asked.environment, &asked.path)?;
    let mut secrets = Vec::new();
    for ((environment, path), folder) in &world.folders {
        if *environment == asked.environment && asked.is_below(path) {
            secrets.extend(items(world, asked, (environment, path), folder));
        }
    }
    let mut imports = Vec::new();
    for (environment, path) in own.imports.iter().filter(|_| asked.imports) {
        let found = folder(world, environment, path)?;
        imports.push(json!({
            "secretPath": path, "environment": environment, "folderId": "folder-1",
            "secrets": items(world, asked, (environment, path), found),
        }));
    }
    Ok(json!({"secrets": secrets, "imports": imports}))
}

fn one(world: &World, asked: &Asked, name: &str) -> Outcome {
    let listing = list(world, asked)?;
    let lists =
        listing["imports"].as_array().into_iter().flatten().rev().map(|import| &import["secrets"]);
    let found = std::iter::once(&listing["secrets"])
        .chain(lists)
        .flat_map(|list| list.as_array().into_iter().flatten())
        .find(|item| item["secretKey"] == name);
    match found {
        Some(secret) => Ok(json!({"secret": secret})),
        None => Err(complaint(404, "NotFound", &format!("Secret with name '{name}' not found"))),
    }
}

fn folder<'a>(world: &'a World, environment: &str, path: &str) -> Result<&'a Folder, Answer> {
    world.folders.get(&(environment.into(), path.into())).ok_or_else(|| {
        let words =
            format!("Folder with path '{path}' in environment with slug '{environment}' not found");
        complaint(404, "NotFound", &words)
    })
}

fn items(world: &World, asked: &Asked, place: (&str, &str), folder: &Folder) -> Vec<Value> {
    let wanted =
        |item: &Item| asked.tags.is_empty() || item.tags.iter().any(|tag| asked.tags.contains(tag));
    let mut found = Vec::new();
    for (name, item) in folder.items.iter().filter(|(_, item)| wanted(item)) {
        found.push(rendered(world, asked, place, name, item, "shared", &item.value));
        if let Some(personal) = item.personal.as_ref().filter(|_| asked.personal) {
            found.push(rendered(world, asked, place, name, item, "personal", personal));
        }
    }
    found
}

fn rendered(
    world: &World,
    asked: &Asked,
    (environment, path): (&str, &str),
    name: &str,
    item: &Item,
    kind: &str,
    value: &str,
) -> Value {
    let hidden = item.hidden || !asked.view;
    let value = match (hidden, asked.expand) {
        (true, _) => HIDDEN.to_owned(),
        (false, true) => expand(world, environment, path, value, DEEPEST),
        (false, false) => value.to_owned(),
    };
    let tags: Vec<Value> =
        item.tags.iter().map(|tag| json!({"id": tag, "slug": tag, "name": tag})).collect();
    let id = format!("id-{environment}-{path}-{name}-{kind}");
    let fields: BTreeMap<&str, Value> = BTreeMap::from([
        ("id", json!(id)),
        ("_id", json!(id)),
        ("workspace", json!(PROJECT_ID)),
        ("environment", json!(environment)),
        ("version", json!(1)),
        ("type", json!(kind)),
        ("secretKey", json!(name)),
        ("secretValue", json!(value)),
        ("secretValueHidden", json!(hidden)),
        ("secretPath", json!(path)),
        ("secretComment", json!("")),
        ("secretMetadata", json!([])),
        ("skipMultilineEncoding", json!(false)),
        ("tags", json!(tags)),
        ("createdAt", json!(WHEN)),
        ("updatedAt", json!(WHEN)),
        ("actor", json!({"actorId": IDENTITY, "actorType": "identity"})),
    ]);
    json!(fields)
}

/// Replaces `${NAME}` and `${environment.folder.NAME}`; what refers to nothing becomes empty.
fn expand(world: &World, environment: &str, path: &str, value: &str, depth: usize) -> String {
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else { break };
        text += before;
        let parts: Vec<&str> = name.split('.').collect();
        let (environment, path, name) = match &parts[..] {
            [name] => (environment.to_owned(), path.to_owned(), *name),
            [environment, folders @ .., name] => {
                ((*environment).to_owned(), format!("/{}", folders.join("/")), *name)
            }
            [] => return value.to_owned(),
        };
        let found = world.folders.get(&(environment.clone(), path.clone()));
        if let Some(item) = found.and_then(|folder| folder.items.get(name)).filter(|_| depth > 0) {
            text += &expand(world, &environment, &path, &item.value, depth - 1);
        }
        rest = after;
    }
    text + rest
}

fn granted(world: &World, token: &str) -> Value {
    let (life, max) = world.token_life;
    json!({"accessToken": token, "expiresIn": life, "accessTokenMaxTTL": max, "tokenType": "Bearer"})
}

fn body(seen: &Seen) -> Outcome {
    let kind = seen.headers.get("content-type").map_or("", String::as_str);
    if !kind.starts_with("application/json") {
        return Err(complaint(
            415,
            "Unsupported Media Type",
            &format!("Unsupported Media Type: {kind}"),
        ));
    }
    serde_json::from_str(&seen.body)
        .map_err(|_| complaint(400, "Bad Request", "Body is not valid JSON"))
}

fn text(body: &Value, name: &str) -> Result<String, Answer> {
    body[name].as_str().map(|text| text.trim().to_owned()).ok_or_else(|| invalid(name, "Required"))
}

fn unknown(seen: &Seen) -> Answer {
    complaint(404, "Not Found", &format!("Route {}:{} not found", seen.method, seen.path))
}
