# Five programs, each with one cause for which it comes out otherwise next time; and one without any.
gcc -DBUILT="\"$(date '+%Y-%m-%d %H:%M:%S')\"" -o clock clock.c

directory=$(mktemp -d)
cp path.c "$directory"
gcc -o path "$directory/path.c"

gcc -DLETTERS="\"$(unset LC_ALL && printf 'gr\303\266\303\237e' | wc -m) letters\"" -o language language.c

seq 6 | xargs -P "$(nproc)" -n 1 sh job.sh
gcc -o jobs jobs.c

python3 -c 'for name in {f"name of column {number}" for number in range(20)}: print(f"\"{name}\",")' >table.h
gcc -o table table.c

gcc -o steady steady.c
