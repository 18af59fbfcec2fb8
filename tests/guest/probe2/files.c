/* Paths and files on the read-only root. */
#include "probe2.h"

#include <dirent.h>
#include <ftw.h>
#include <glob.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <utime.h>

static char text[8192];
static int visited;

static int visit(const char *path, const struct stat *state, int kind, struct FTW *where)
{
    (void)path, (void)state, (void)where;
    visited += kind == FTW_F;
    return 0;
}

static int in_root(const char *wanted)
{
    int found = 0;
    DIR *all = opendir("/");
    for (struct dirent *each; all && (each = readdir(all));)
        found += !strcmp(each->d_name, wanted);
    if (all)
        closedir(all);
    return found;
}

static void ask_opening(void)
{
    P("open_missing", open("/none", O_RDONLY) < 0 ? -1 : 0;);
    P("open_missing_parent", open("/none/none", O_RDONLY) < 0 ? -1 : 0;);
    P("open_empty_path", open("", O_RDONLY) < 0 ? -1 : 0;);
    P("open_null_path", open((char *)0, O_RDONLY) < 0 ? -1 : 0;);
    P("open_bad_pointer", open((char *)0x1000, O_RDONLY) < 0 ? -1 : 0;);
    P("open_through_file", open("/etc/passwd/x", O_RDONLY) < 0 ? -1 : 0;);
    P("open_slash_after_file", open("/etc/passwd/", O_RDONLY) < 0 ? -1 : 0;);
    P("open_directory_on_file", open("/etc/passwd", O_RDONLY | O_DIRECTORY) < 0 ? -1 : 0;);
    P("open_dir_for_writing", open("/etc", O_WRONLY) < 0 ? -1 : 0;);
    P("open_create_on_dir", open("/etc", O_RDONLY | O_CREAT, 0644) < 0 ? -1 : 0;);
    P("open_create_existing", open("/etc/passwd", O_RDONLY | O_CREAT, 0644) < 0 ? -1 : 0;);
    P("open_create_new_rdonly", open("/etc/new", O_RDONLY | O_CREAT, 0644) < 0 ? -1 : 0;);
    P("open_excl_existing", open("/etc/passwd", O_WRONLY | O_CREAT | O_EXCL, 0644) < 0 ? -1 : 0;);
    P("open_trunc_rdonly", open("/etc/passwd", O_RDONLY | O_TRUNC) < 0 ? -1 : 0;);
    P("open_append_root", open("/etc/passwd", O_WRONLY | O_APPEND) < 0 ? -1 : 0;);
    P("open_noatime", open("/etc/passwd", O_RDONLY | O_NOATIME) < 0 ? -1 : 0;);
    P("open_long_name", memset(text, 'n', 300); text[0] = '/'; text[300] = 0; open(text, O_RDONLY) < 0 ? -1 : 0;);
    P("open_long_path", memset(text, '/', 5000); strcpy(text + 5000, "etc"); open(text, O_RDONLY) < 0 ? -1 : 0;);
    P("open_above_root", open("/../../etc/passwd", O_RDONLY) < 0 ? -1 : 0;);
    P("open_double_slash", open("//etc///passwd", O_RDONLY) < 0 ? -1 : 0;);
    P("open_dot_dot_missing", open("/none/../etc/passwd", O_RDONLY) < 0 ? -1 : 0;);
    P("open_o_path", struct stat s; int f = open("/etc/passwd", O_PATH); f < 0 ? -1 : fstat(f, &s););
    P("open_o_path_read", int f = open("/etc/passwd", O_PATH); read(f, text, 1) < 0 ? -1 : 0;);
    P("open_lowest_number", int f = open("/etc/passwd", O_RDONLY); N("%d", f); f == 3 ? 0 : 1;);
    P("openat_directory", int d = open("/etc", O_RDONLY | O_DIRECTORY); openat(d, "passwd", O_RDONLY) < 0 ? -1 : 0;);
    P("openat_bad_directory", openat(99, "passwd", O_RDONLY) < 0 ? -1 : 0;);
    P("openat_file_as_dir", int d = open("/etc/passwd", O_RDONLY); openat(d, "x", O_RDONLY) < 0 ? -1 : 0;);
    P("openat_absolute", openat(99, "/etc/passwd", O_RDONLY) < 0 ? -1 : 0;);
    S("creat_call", SYS_creat, "/new", 0644);
}

static void ask_changing(void)
{
    P("root_rename", rename("/etc/passwd", "/etc/other"););
    P("root_link", link("/etc/passwd", "/etc/other"););
    P("root_symlink", symlink("passwd", "/etc/other"););
    P("root_mknod", mknod("/etc/other", S_IFREG | 0644, 0););
    P("root_mkdir_existing", mkdir("/etc", 0755););
    P("root_mkdir_missing", mkdir("/none/x", 0755););
    P("root_rmdir", rmdir("/etc"););
    P("root_rmdir_missing", rmdir("/none"););
    P("root_unlink_missing", unlink("/none"););
    P("root_unlink_dir", unlink("/etc"););
    P("root_truncate", truncate("/etc/passwd", 3););
    P("root_chown", chown("/etc/passwd", 1, 1););
    P("root_chmod_missing", chmod("/none", 0644););
    P("root_fchmod", int f = open("/etc/passwd", O_RDONLY); fchmod(f, 0644););
    P("root_utime", struct utimbuf t = {1, 1}; utime("/etc/passwd", &t););
    P("root_utimes", struct timeval t[2] = {{1, 0}, {1, 0}}; utimes("/etc/passwd", t););
    P("root_utime_missing", utimensat(AT_FDCWD, "/none", 0, 0););
    P("root_rename_to_ws", rename("/etc/passwd", W "moved"););
    P("root_rename_from_ws", put(W "from", "x"); rename(W "from", "/etc/from"););
    P("root_link_to_ws", link("/etc/passwd", W "linked"););
}

static void ask_state(void)
{
    P("access_missing", access("/none", F_OK););
    P("access_read", access("/etc/passwd", R_OK););
    P("access_write_file", access("/etc/passwd", W_OK););
    P("access_execute_data", access("/etc/passwd", X_OK););
    P("access_bad_mode", access("/etc/passwd", 0x1ff););
    P("faccessat_eaccess", faccessat(AT_FDCWD, "/etc/passwd", R_OK, AT_EACCESS););
    P("stat_missing", struct stat s; stat("/none", &s););
    P("stat_through_file", struct stat s; stat("/etc/passwd/x", &s););
    P("stat_slash_after_file", struct stat s; stat("/etc/passwd/", &s););
    P("stat_empty_path", struct stat s; stat("", &s););
    P("stat_bad_buffer", syscall(SYS_stat, "/etc/passwd", 8););
    P("stat_file", struct stat s; int r = stat("/etc/passwd", &s); N("%o links=%d", s.st_mode, (int)s.st_nlink); r;);
    P("stat_size", struct stat s; int r = stat("/etc/passwd", &s); N("%ld", (long)s.st_size); r;);
    P("stat_blocks", struct stat s; int r = stat("/etc/passwd", &s);
      N("%ld of %ld", (long)s.st_blocks, (long)s.st_blksize); r;);
    P("stat_dir_links", struct stat s; int r = stat("/etc", &s); N("%d", (int)s.st_nlink); r;);
    P("stat_inodes_differ", struct stat a, b; stat("/etc", &a); int r = stat("/etc/passwd", &b);
      r ? r : a.st_ino == b.st_ino;);
    P("stat_devices_differ", struct stat a, b; stat("/", &a); int r = stat(W, &b); r ? r : a.st_dev == b.st_dev;);
    P("stat_null_is_char", struct stat s; int r = stat("/dev/null", &s); N("%o", s.st_mode & S_IFMT); r;);
    P("stat_stdout", struct stat s; int r = fstat(1, &s); r;);
    P("stat_pipe", struct stat s; int p[2]; pipe(p); int r = fstat(p[0], &s); N("%o", s.st_mode & S_IFMT); r;);
    P("stat_socket", struct stat s; int f = syscall(SYS_socket, 1, 1, 0); int r = fstat(f, &s);
      N("%o", s.st_mode & S_IFMT); r;);
    P("fstat_bad", struct stat s; fstat(99, &s););
    P("fstatat_empty_path", struct stat s; int f = open("/etc/passwd", O_RDONLY); fstatat(f, "", &s, AT_EMPTY_PATH););
    P("fstatat_cwd", struct stat s; fstatat(AT_FDCWD, "etc/passwd", &s, 0););
    P("statx_empty_path", struct statx s; int f = open("/etc/passwd", O_RDONLY);
      int r = statx(f, "", AT_EMPTY_PATH, STATX_SIZE, &s); N("%ld", (long)s.stx_size); r;);
    P("statx_mask", struct statx s = {0}; int r = statx(AT_FDCWD, "/etc/passwd", 0, STATX_BASIC_STATS, &s);
      N("%x", s.stx_mask & STATX_BASIC_STATS); r;);
    P("statx_btime", struct statx s = {0}; int r = statx(AT_FDCWD, "/etc/passwd", 0, STATX_BTIME, &s);
      N("%s", s.stx_mask & STATX_BTIME ? "yes" : "no"); r;);
    P("statfs_root", struct statfs s; int r = statfs("/", &s); N("block=%ld", (long)s.f_bsize); r;);
    P("statfs_root_flags", struct statvfs s; int r = statvfs("/", &s); N("%s", s.f_flag & ST_RDONLY ? "ro" : "rw");
      r;);
    P("statfs_name_max", struct statfs s; int r = statfs("/", &s); N("%ld", (long)s.f_namelen); r;);
    P("statfs_missing", struct statfs s; statfs("/none", &s););
    P("fstatfs_root", struct statfs s; int f = open("/etc/passwd", O_RDONLY); fstatfs(f, &s););
    P("pathconf_name_max", IS(255, pathconf("/etc", _PC_NAME_MAX)););
    P("readlink_of_file", readlink("/etc/passwd", text, 9) < 0 ? -1 : 0;);
    P("readlink_missing", readlink("/none", text, 9) < 0 ? -1 : 0;);
    P("chdir_file", chdir("/etc/passwd"););
    P("chdir_missing", chdir("/none"););
    P("chdir_relative", int r = chdir("etc") || access("passwd", F_OK); chdir("/"); r;);
    P("chdir_dot_dot", int r = chdir("/etc") || chdir(".."); getcwd(text, 99); chdir("/"); N("%s", text); r;);
    P("getcwd_too_small", chdir("/etc"); char *r = getcwd(text, 2); int e = errno; chdir("/"); errno = e;
      r ? 0 : -1;);
    P("umask", umask(022); int r = umask(022); N("%o", r); r == 022 ? 0 : 1;);
}

static void ask_directories(void)
{
    P("readdir_workspace_there", IS(1, in_root("workspace")););
    P("readdir_dev_there", IS(1, in_root("dev")););
    P("readdir_proc_there", IS(1, in_root("proc")););
    P("readdir_sys_there", IS(1, in_root("sys")););
    P("readdir_dots", IS(2, in_root(".") + in_root("..")););
    P("readdir_kind", int kind = -1; DIR *d = opendir("/etc");
      for (struct dirent *e; (e = readdir(d));) if (!strcmp(e->d_name, "passwd")) kind = e->d_type;
      closedir(d); N("%d", kind); kind == DT_REG ? 0 : 1;);
    P("readdir_rewound", int n = 0; DIR *d = opendir("/etc"); while (readdir(d)) n++;
      rewinddir(d); int m = 0; while (readdir(d)) m++; closedir(d); m == n && n > 2 ? 0 : 1;);
    P("readdir_seek", DIR *d = opendir("/etc"); readdir(d); long at = telldir(d);
      char *a = strdup(readdir(d)->d_name);
      seekdir(d, at); int r = strcmp(a, readdir(d)->d_name); closedir(d); r ? 1 : 0;);
    P("opendir_file", opendir("/etc/passwd") ? 0 : -1;);
    P("read_directory", int d = open("/etc", O_RDONLY); read(d, text, 10) < 0 ? -1 : 0;);
    P("getdents_small", int d = open("/etc", O_RDONLY); syscall(SYS_getdents64, d, text, 8) < 0 ? -1 : 0;);
    P("getdents_of_file", int d = open("/etc/passwd", O_RDONLY);
      syscall(SYS_getdents64, d, text, 4096) < 0 ? -1 : 0;);
    P("getdents_old", int d = open("/etc", O_RDONLY); syscall(SYS_getdents, d, text, 4096) < 0 ? -1 : 0;);
    P("nftw", visited = 0; int r = nftw("/etc", visit, 8, FTW_PHYS); N("%s", visited ? "files" : "none"); r;);
    P("glob", glob_t g; int r = glob("/etc/passw?", 0, 0, &g); N("%zu", g.gl_pathc); r;);
    P("realpath_missing", realpath("/etc/none", 0) ? 0 : -1;);
    P("realpath_dots", char *p = realpath("/etc/../etc/./passwd", 0); N("%s", p ? p : ""); p ? 0 : -1;);
}

static void ask_reading(void)
{
    P("read_end", int f = open("/etc/passwd", O_RDONLY); lseek(f, 0, SEEK_END); IS(0, read(f, text, 9)););
    P("read_nothing", int f = open("/etc/passwd", O_RDONLY); IS(0, read(f, text, 0)););
    P("read_bad_buffer", int f = open("/etc/passwd", O_RDONLY); read(f, (void *)8, 9) < 0 ? -1 : 0;);
    P("read_bad_descriptor", read(99, text, 9) < 0 ? -1 : 0;);
    P("write_to_rdonly", int f = open("/etc/passwd", O_RDONLY); write(f, "x", 1) < 0 ? -1 : 0;);
    P("pread_negative", int f = open("/etc/passwd", O_RDONLY); pread(f, text, 1, -1) < 0 ? -1 : 0;);
    P("pread_past_end", int f = open("/etc/passwd", O_RDONLY); IS(0, pread(f, text, 1, 1 << 20)););
    P("readv_1024", static struct iovec v[1024]; int f = open("/etc/passwd", O_RDONLY);
      for (int i = 0; i < 1024; i++) v[i] = (struct iovec){text + i, 1}; readv(f, v, 1024) > 9 ? 0 : -1;);
    P("readv_1025", static struct iovec v[1025]; int f = open("/etc/passwd", O_RDONLY);
      readv(f, v, 1025) < 0 ? -1 : 0;);
    P("lseek_negative", int f = open("/etc/passwd", O_RDONLY); lseek(f, -1, SEEK_SET) < 0 ? -1 : 0;);
    P("lseek_past_end", int f = open("/etc/passwd", O_RDONLY); IS(9999, lseek(f, 9999, SEEK_SET)););
    P("lseek_bad_whence", int f = open("/etc/passwd", O_RDONLY); lseek(f, 0, 77) < 0 ? -1 : 0;);
    P("lseek_data_root", int f = open("/etc/passwd", O_RDONLY); lseek(f, 0, SEEK_DATA) < 0 ? -1 : 0;);
    P("lseek_pipe", int p[2]; pipe(p); lseek(p[0], 0, SEEK_SET) < 0 ? -1 : 0;);
    P("dup_shares_offset", int f = open("/etc/passwd", O_RDONLY); int g = dup(f); read(f, text, 4);
      IS(4, lseek(g, 0, SEEK_CUR)););
    P("mmap_root_file", int f = open("/etc/passwd", O_RDONLY); char *p = mmap(0, 4096, PROT_READ, MAP_SHARED, f, 0);
      p == MAP_FAILED ? -1 : (N("%.4s tail=%d", p, p[4000]), 0););
    P("mmap_root_past_end", int f = open("/etc/passwd", O_RDONLY);
      char *p = mmap(0, 1 << 16, PROT_READ, MAP_PRIVATE, f, 0); N("%d", p[40960]); p == MAP_FAILED ? -1 : 0;);
    P("mmap_root_shared_rw", int f = open("/etc/passwd", O_RDONLY);
      mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0) == MAP_FAILED ? -1 : 0;);
    P("mmap_root_private_rw", int f = open("/etc/passwd", O_RDONLY);
      char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, f, 0); p[0] = 'X'; N("%c", p[0]); 0;);
    P("flock_root", int f = open("/etc/passwd", O_RDONLY); flock(f, LOCK_SH););
    P("fcntl_lock_root", struct flock l = {F_RDLCK, SEEK_SET, 0, 0, 0}; int f = open("/etc/passwd", O_RDONLY);
      fcntl(f, F_SETLK, &l););
    P("fadvise_root", int f = open("/etc/passwd", O_RDONLY); posix_fadvise(f, 0, 0, POSIX_FADV_WILLNEED););
    P("readahead_root", int f = open("/etc/passwd", O_RDONLY); readahead(f, 0, 4096););
    P("fsync_root", int f = open("/etc/passwd", O_RDONLY); fsync(f););
    P("sync", sync(); 0;);
    P("sendfile_to_pipe", int p[2]; pipe(p); int f = open("/etc/passwd", O_RDONLY);
      IS(10, sendfile(p[1], f, 0, 10)););
    P("sendfile_from_pipe", int p[2]; pipe(p); write(p[1], "x", 1); sendfile(1, p[0], 0, 1) < 0 ? -1 : 0;);
}

void ask_files(void)
{
    ask_opening();
    ask_changing();
    ask_state();
    ask_directories();
    ask_reading();
}
