//! The user in a container and the owner of the project, who have to be one for the kernel.
//!
//! The project's files belong to a uid of this machine, and TazPod works for nobody but their owner. Images are made for uid
//! 1000; for everybody else the user in the container is given the owner's uid once, after the container was made.

use super::engine::{About, Engine, Program};
use super::session;
use super::spec::{self, ContainerSpec, USER_ID};
use crate::error::{Error, Result};
use crate::project::Project;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// What runs in the container for it.
const ADOPT: &str = include_str!("adopt.sh");

/// What helps where the owner is root.
pub(crate) const BE_ROOT: &str = "'user: root' in .tazpod/config.yaml and 'tazpod up --recreate', or give the project to another user";

/// How long it may work on a home folder.
const PATIENCE: Duration = Duration::from_secs(600);

/// Ids that a user in a container is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    /// The user's.
    pub(crate) uid: u32,
    /// The group's.
    pub(crate) gid: u32,
}

/// How the owner outside and the user inside come to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// They are, by what the image or the engine does.
    Same,
    /// The user is given the owner's ids.
    Adopted(Ids),
    /// The owner is root in the container, which no other user can become.
    Root,
}

impl Owner {
    /// Decides it for a project, a user and an engine.
    pub(crate) fn of(project: &Project, user: &str, engine: &About) -> Self {
        let facts = fs::metadata(project.folder()).or_else(|_| fs::metadata(project.root()));
        facts.map_or(Self::Same, |facts| {
            Self::judge(Ids { uid: facts.uid(), gid: facts.gid() }, user, engine)
        })
    }

    fn judge(owner: Ids, user: &str, engine: &About) -> Self {
        match (engine.product.as_str(), engine.rootless, owner.uid) {
            _ if user == "root" => Self::Same,
            // Its containers are told who the person is; see `ContainerSpec::user_namespace`.
            ("Podman", true, _) => Self::Same,
            // It makes the person root in every container.
            (_, true, _) | (_, false, 0) => Self::Root,
            (_, false, USER_ID) => Self::Same,
            (_, false, _) => Self::Adopted(owner),
        }
    }

    /// The ids of the container's user.
    pub(crate) fn ids(self, user: &str) -> Ids {
        match self {
            Self::Adopted(ids) => ids,
            _ if user == "root" => Ids { uid: 0, gid: 0 },
            _ => Ids { uid: USER_ID, gid: USER_ID },
        }
    }
}

/// Gives the user of a running container these ids; false if there was nothing to do.
pub(crate) fn adopt(
    engine: &dyn Engine,
    container: &str,
    spec: &ContainerSpec,
    ids: Ids,
) -> Result<bool> {
    let user = spec.user.as_str();
    let failed = |why: String| {
        Error::environment(format!(
            "the user '{user}' in the container cannot be given the uid {} of the project's owner",
            ids.uid
        ))
        .caused_by(std::io::Error::other(why))
        .hint(
            "build the image with a user of this uid, and name it by 'user' in .tazpod/config.yaml",
        )
    };
    let mut command: Vec<String> = ["sh", "-c", ADOPT, "adopt", user].map(str::to_owned).to_vec();
    command.extend([ids.uid.to_string(), ids.gid.to_string(), spec::home(user)]);
    let mounts = spec.binds.iter().map(|bind| &bind.target).chain(spec.tmpfs.keys());
    for (number, target) in mounts.enumerate() {
        // What is mounted there belongs to others.
        command.extend((number > 0).then(|| "-o".to_owned()));
        command.extend(["-path".to_owned(), target.clone()]);
    }
    let program =
        Program { command, user: "root".to_owned(), folder: "/".to_owned(), ..Program::default() };
    let (status, answer) = session::ask_within(engine, container, &program, PATIENCE)?;
    match status {
        0 => Ok(true),
        10 => Ok(false),
        11 => {
            let other = String::from_utf8_lossy(&answer).trim().to_owned();
            Err(failed(format!("the image has a user '{other}' of that uid")))
        }
        12 => Err(failed("there is no such user in the image, or it is root".to_owned())),
        status => Err(failed(format!("a program in it ended with status {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_and_the_owner_decide_who_the_user_is() {
        let about = |product: &str, rootless| About {
            product: product.to_owned(),
            rootless,
            ..About::default()
        };
        let (docker, podman) = (about("Docker", false), about("Podman", false));
        let ids = |uid| Ids { uid, gid: 7 };
        for (owner, user, engine, expected) in [
            (1000, "tazpod", &docker, Owner::Same),
            (1001, "tazpod", &docker, Owner::Adopted(ids(1001))),
            (1001, "tazpod", &podman, Owner::Adopted(ids(1001))),
            (1001, "root", &docker, Owner::Same),
            (0, "tazpod", &docker, Owner::Root),
            (1000, "tazpod", &about("Docker", true), Owner::Root),
            (1000, "root", &about("Docker", true), Owner::Same),
            (1001, "tazpod", &about("Podman", true), Owner::Same),
        ] {
            assert_eq!(
                Owner::judge(ids(owner), user, engine),
                expected,
                "{owner} {user} {engine:?}"
            );
        }
    }
}
