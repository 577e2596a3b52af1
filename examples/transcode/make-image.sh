#!/bin/sh
# Makes image/root: ffmpeg of this machine with the libraries that it needs, a shell, and a film for each line of image/work/list.
set -eu
cd "$(dirname -- "$0")/image"
command -v ffmpeg >/dev/null || { echo "there is no ffmpeg here (Debian: apt-get install ffmpeg)" >&2; exit 1; }
rm -rf root
mkdir -p root/films root/bin root/usr/bin

for program in ffmpeg sh sed cp; do
  from=$(command -v "$program")
  cp -L "$from" "root/usr/bin/$program"
  for library in $(ldd "$from" | grep -o '/[^ ]*'); do
    [ -e "root$library" ] && continue
    mkdir -p "root${library%/*}"
    cp -L "$library" "root$library"
  done
done
ln -s ../usr/bin/sh root/bin/sh

# Two seconds of a picture that moves and a tone, each its own: what comes out can be told by what went in.
film() { # NAME PICTURE TONE
  ffmpeg -nostdin -hide_banner -loglevel error -f lavfi -i "$2" -f lavfi -i "sine=frequency=$3:sample_rate=44100" \
    -t 2 -c:v mpeg2video -q:v 4 -c:a ac3 "root/films/$1"
}
film bars.mkv smptebars=size=640x480:rate=25 440
film clock.mkv testsrc=size=480x480:rate=25 660
film colours.mkv rgbtestsrc=size=960x480:rate=25 880
