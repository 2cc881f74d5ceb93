#!/usr/bin/env bash
# What the checks need beside Python, make, gcc and git, from Debian's packages, as root: Java and Maven for the Flink
# cluster, strace for the order in which files reach the disk. Installs only what is missing.
set -euo pipefail
missing=()
if ! command -v java > /dev/null; then
    # Flink 1.19 runs on Java 11 and 17; a newer Debian has neither, and there its own may do.
    missing+=(openjdk-17-jre-headless)
fi
command -v mvn > /dev/null || missing+=(maven)
command -v strace > /dev/null || missing+=(strace)
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
apt-get update -qq
for place in "${!missing[@]}"; do
    apt-cache show "${missing[$place]}" > /dev/null 2>&1 || missing[place]=default-jre-headless
done
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
