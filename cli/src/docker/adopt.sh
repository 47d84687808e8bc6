# shellcheck shell=sh
# Gives a user of a container another uid, and the home folder with it.
#
#   USER UID GID HOME PRUNED...   PRUNED: what is mounted in the home folder, as words for find
#
# Ends with 0 if that was done, with 10 if it was so already, with 11 if the uid is another user's, with 12 if there is no such user
# or it is root. The user database comes last: whoever was interrupted begins again.
set -eu
user=$1 uid=$2 gid=$3 home=$4
shift 4

old='' taken='' old_gid=''
while IFS=: read -r name _ number group _; do
  if [ "$name" = "$user" ]; then
    old=$number old_gid=$group
  elif [ "$number" = "$uid" ]; then
    taken=$name
  fi
done </etc/passwd
if [ -z "$old" ] || [ "$old" = 0 ]; then exit 12; fi
[ "$old" != "$uid" ] || exit 10
if [ -n "$taken" ]; then
  echo "$taken"
  exit 11
fi

# A group that somebody else has in the image may be let in to more than the user is: the user keeps the old one then.
own=''
while IFS=: read -r name _ number _; do
  if [ "$name" = "$user" ] && [ "$number" = "$old_gid" ]; then
    own=yes
  elif [ "$number" = "$gid" ]; then
    gid=$old_gid
  fi
done </etc/group
[ -n "$own" ] && [ "$gid" != 0 ] || gid=$old_gid

# Each from within its folder: a folder that is exchanged for a link meanwhile leads nowhere.
find "$home" -xdev \( "$@" \) -prune -o -gid "$old_gid" -uid "$old" -execdir chgrp -h "$gid" {} +
find "$home" -xdev \( "$@" \) -prune -o -uid "$old" -execdir chown -h "$uid" {} +
name=$(printf %s "$user" | sed 's/[.]/\\&/g')
sed -i "s/^\($name:[^:]*\):$old_gid:/\1:$gid:/" /etc/group
sed -i "s/^\($name:[^:]*\):$old:$old_gid:/\1:$uid:$gid:/" /etc/passwd
