#!/usr/bin/env bash
# Pictures of pages as a browser shows them, to be looked at: wide, narrow and dark.
# look.sh FOLDER PAGE...
set -euo pipefail

folder=$1
shift
mkdir -p "$folder"
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || {
    echo 'no Chromium: install it (apt-get install chromium), or open the page in any browser' >&2
    exit 1
}
for page in "$@"; do
    name=$(basename "$(dirname "$(realpath "$page")")")-$(basename "$page" .html)
    for look in wide:1280:0 narrow:420:0 dark:1280:1; do
        IFS=: read -r what width dark <<< "$look"
        # The page's height is not known before; what is below it stays empty.
        "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size="$width,${HEIGHT:-7000}" \
            --blink-settings="preferredColorScheme=$((1 - dark))" --screenshot="$folder/$name-$what.png" \
            "file://$(realpath "$page")" 2> /dev/null
        echo "$folder/$name-$what.png"
    done
done
