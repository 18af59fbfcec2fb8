# The first job has the most to do.
[ "$1" != 1 ] || sleep 0.5
echo "\"part number $1\"," >>jobs.h
