/* Files in /workspace, which is 9p on the guest. Nothing here unlinks a file that is open: see dangers.c. */
#include "probe2.h"

#include <dirent.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <linux/falloc.h>
#include <linux/fs.h>

static char text[1 << 16];

static long size_of(const char *path)
{
    struct stat s;
    return stat(path, &s) ? -1 : (long)s.st_size;
}

static int mode_of(const char *path)
{
    struct stat s;
    return stat(path, &s) ? -1 : (int)(s.st_mode & 07777);
}

static int count(const char *path)
{
    int n = 0;
    DIR *d = opendir(path);
    if (!d)
        return -1;
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void ask_names(void)
{
    P("ws_rename", put(W "a", "a"); rename(W "a", W "b") ? -1 : IS(1, size_of(W "b")););
    P("ws_rename_over", put(W "a", "aa"); put(W "b", "b"); rename(W "a", W "b") ? -1 : IS(2, size_of(W "b")););
    P("ws_rename_same", put(W "a", "a"); rename(W "a", W "a"););
    P("ws_rename_missing", rename(W "none", W "b"););
    P("ws_rename_dir", mkdir(W "d1", 0755); put(W "d1/x", "x");
      rename(W "d1", W "d2") ? -1 : IS(1, size_of(W "d2/x")););
    P("ws_rename_dir_filled", mkdir(W "e1", 0755); mkdir(W "e2", 0755); put(W "e2/x", "x"); rename(W "e1", W "e2"););
    P("ws_rename_file_on_dir", put(W "a", "a"); mkdir(W "e3", 0755); rename(W "a", W "e3"););
    P("ws_rename_between_dirs", mkdir(W "m1", 0755); mkdir(W "m2", 0755); put(W "m1/x", "x");
      rename(W "m1/x", W "m2/y") ? -1 : IS(1, size_of(W "m2/y")););
    P("ws_rename_noreplace", put(W "a", "a"); put(W "b", "b");
      renameat2(AT_FDCWD, W "a", AT_FDCWD, W "b", RENAME_NOREPLACE););
    P("ws_rename_exchange", put(W "a", "a"); put(W "b", "bb");
      renameat2(AT_FDCWD, W "a", AT_FDCWD, W "b", RENAME_EXCHANGE) ? -1 : IS(2, size_of(W "a")););
    P("ws_rename_opened", int f = fresh(W "ro"); write(f, "x", 1); int r = rename(W "ro", W "ro2"); write(f, "y", 1);
      r ? r : IS(2, size_of(W "ro2")););
    P("ws_mkdir_existing", mkdir(W "d", 0755); mkdir(W "d", 0755););
    P("ws_mkdir_missing", mkdir(W "none/d", 0755););
    P("ws_mkdir_mode", mkdir(W "dm", 0700); N("%o", mode_of(W "dm")); 0;);
    P("ws_mkdirat", int d = open("/workspace", O_RDONLY | O_DIRECTORY); mkdirat(d, "at", 0755););
    P("ws_rmdir_filled", mkdir(W "f", 0755); put(W "f/x", "x"); rmdir(W "f"););
    P("ws_rmdir_file", put(W "a", "a"); rmdir(W "a"););
    P("ws_rmdir_missing", rmdir(W "none"););
    P("ws_rmdir_itself", rmdir("/workspace"););
    P("ws_unlink_dir", mkdir(W "ud", 0755); unlink(W "ud"););
    P("ws_unlink_missing", unlink(W "none"););
    P("ws_unlink_seen", put(W "us", "x"); unlink(W "us") ? -1 : access(W "us", F_OK) == 0 ? 1 : 0;);
    P("ws_unlinkat_dir", mkdir(W "uad", 0755); unlinkat(AT_FDCWD, W "uad", AT_REMOVEDIR););
    P("ws_symlink_follow", put(W "a", "abc"); unlink(W "sl"); symlink("a", W "sl") ? -1 : IS(3, size_of(W "sl")););
    P("ws_symlink_absolute", unlink(W "sa"); symlink("/etc/passwd", W "sa") ? -1 : size_of(W "sa") > 9 ? 0 : -1;);
    P("ws_symlink_existing", put(W "a", "a"); symlink("x", W "a"););
    P("ws_symlink_dangling", unlink(W "sd"); symlink("none", W "sd"); open(W "sd", O_RDONLY) < 0 ? -1 : 0;);
    P("ws_symlink_create_through", unlink(W "sc"); unlink(W "made"); symlink("made", W "sc"); put(W "sc", "x"););
    P("ws_symlink_lstat", struct stat s; unlink(W "sl"); symlink("a", W "sl"); int r = lstat(W "sl", &s);
      N("%o %ld", s.st_mode & S_IFMT, (long)s.st_size); r;);
    P("ws_symlink_loop", unlink(W "l1"); unlink(W "l2"); symlink("l1", W "l2"); symlink("l2", W "l1");
      open(W "l1", O_RDONLY) < 0 ? -1 : 0;);
    P("ws_symlink_nofollow", unlink(W "sl"); symlink("a", W "sl"); open(W "sl", O_RDONLY | O_NOFOLLOW) < 0 ? -1 : 0;);
    P("ws_symlink_to_dir", mkdir(W "d", 0755); put(W "d/in", "x"); unlink(W "sdir"); symlink("d", W "sdir");
      IS(1, size_of(W "sdir/in")););
    P("ws_symlink_unlink", unlink(W "sl"); put(W "a", "a"); symlink("a", W "sl");
      unlink(W "sl") ? -1 : access(W "a", 0););
    P("ws_symlink_outward", unlink(W "so"); symlink("../etc", W "so"); access(W "so/passwd", R_OK););
    P("ws_dot_dot", access(W "../etc/passwd", R_OK););
    P("ws_trailing_slash_dir", mkdir(W "d/", 0755); access(W "d/", F_OK););
    P("ws_name_255", char n[300] = W; memset(n + 11, 'x', 255); n[266] = 0; put(n, "x"););
    P("ws_name_256", char n[300] = W; memset(n + 11, 'x', 256); n[267] = 0; put(n, "x"););
    P("ws_name_space", put(W "a b\tc", "x"););
    P("ws_name_bytes", put(W "\xff\xfe", "x"););
    P("ws_name_newline", put(W "a\nb", "x"););
    P("ws_name_case", put(W "Case", "1"); access(W "case", F_OK););
}

static void ask_modes(void)
{
    P("ws_create_mode", unlink(W "cm"); close(open(W "cm", O_CREAT | O_WRONLY, 0600)); N("%o", mode_of(W "cm")); 0;);
    P("ws_create_umask", umask(077); unlink(W "cu"); close(open(W "cu", O_CREAT | O_WRONLY, 0666)); umask(022);
      N("%o", mode_of(W "cu")); 0;);
    P("ws_create_readonly", unlink(W "cr"); int f = open(W "cr", O_CREAT | O_WRONLY, 0444); IS(1, write(f, "x", 1)););
    P("ws_create_setuid", unlink(W "cs"); close(open(W "cs", O_CREAT | O_WRONLY, 04755)); N("%o", mode_of(W "cs"));
      0;);
    P("ws_owner", struct stat s; put(W "ow", "x"); int r = stat(W "ow", &s); N("%d %d", s.st_uid, s.st_gid); r;);
    P("ws_chown_to_user", struct stat s; put(W "ow", "x"); int r = chown(W "ow", 1000, 1000); stat(W "ow", &s);
      N("%d", s.st_uid); r;);
    P("ws_fchown", int f = fresh(W "fo"); fchown(f, 0, 0););
    P("ws_lchown", unlink(W "sl"); symlink("a", W "sl"); lchown(W "sl", 0, 0););
    P("ws_fchmodat", put(W "a", "a"); fchmodat(AT_FDCWD, W "a", 0640, 0););
    P("ws_access_own", put(W "a", "a"); access(W "a", R_OK | W_OK););
    P("ws_access_x", put(W "a", "a"); access(W "a", X_OK););
    P("ws_links", struct stat s; put(W "a", "a"); int r = stat(W "a", &s); N("%d", (int)s.st_nlink); r;);
    P("ws_kind", struct stat s; int r = stat("/workspace", &s); N("%o", s.st_mode & S_IFMT); r;);
    P("ws_blocks", struct stat s; int f = fresh(W "bl"); write(f, text, 8192); int r = fstat(f, &s);
      N("%s", s.st_blocks >= 16 ? "counted" : "not"); r;);
    P("ws_block_size", struct stat s; int f = fresh(W "bl"); int r = fstat(f, &s); N("%ld", (long)s.st_blksize); r;);
    P("ws_inode_kept", struct stat a, b; put(W "a", "a"); stat(W "a", &a); rename(W "a", W "ik");
      int r = stat(W "ik", &b);
      r ? r : a.st_ino != b.st_ino;);
    P("ws_mtime_written", struct timespec t[2] = {{9, 0}, {9, 0}}; struct stat s; put(W "a", "a");
      utimensat(AT_FDCWD, W "a", t, 0); put(W "a", "b"); int r = stat(W "a", &s);
      N("%s", s.st_mtime == 9 ? "old" : "new"); r;);
    P("ws_mtime_nanoseconds", struct timespec t[2] = {{9, 5}, {9, 123456789}}; struct stat s; put(W "a", "a");
      utimensat(AT_FDCWD, W "a", t, 0); int r = stat(W "a", &s);
      N("%s", s.st_mtim.tv_nsec == 123456789 ? "kept" : "lost"); r;);
    P("ws_atime_set", struct timespec t[2] = {{7, 0}, {9, 0}}; struct stat s; put(W "a", "a");
      utimensat(AT_FDCWD, W "a", t, 0); int r = stat(W "a", &s); N("%s", s.st_atime == 7 ? "kept" : "lost"); r;);
    P("ws_utime_omit", struct timespec t[2] = {{0, UTIME_OMIT}, {9, 0}}; struct stat s; put(W "a", "a");
      int r = utimensat(AT_FDCWD, W "a", t, 0); stat(W "a", &s); N("%s", s.st_atime > 9 ? "kept" : "lost"); r;);
    P("ws_utime_now", struct timespec t[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}}; put(W "a", "a");
      utimensat(AT_FDCWD, W "a", t, 0););
    P("ws_futimens", struct timespec t[2] = {{9, 0}, {9, 0}}; struct stat s; int f = fresh(W "fu");
      int r = futimens(f, t); fstat(f, &s); N("%ld", (long)s.st_mtime); r;);
    P("ws_dir_mtime", struct stat a, b; mkdir(W "dt", 0755); stat(W "dt", &a); usleep(20000); put(W "dt/x", "x");
      int r = stat(W "dt", &b); N("%s", b.st_mtim.tv_nsec != a.st_mtim.tv_nsec ? "new" : "old"); r;);
    P("ws_getxattr", put(W "a", "a"); getxattr(W "a", "user.x", text, 9) < 0 ? -1 : 0;);
    P("ws_listxattr", put(W "a", "a"); listxattr(W "a", text, 99) < 0 ? -1 : 0;);
}

static void ask_data(void)
{
    P("ws_write_4m", char *p = malloc(4 << 20); memset(p, 7, 4 << 20); int f = fresh(W "big");
      IS(4 << 20, write(f, p, 4 << 20)););
    P("ws_read_4m", char *p = malloc(4 << 20); int f = open(W "big", O_RDONLY); IS(4 << 20, read(f, p, 4 << 20)););
    P("ws_read_unaligned", int f = open(W "big", O_RDONLY); text[100] = 0; int r = pread(f, text, 333, 12345);
      r == 333 && text[100] == 7 ? 0 : 1;);
    P("ws_pwrite_keeps_offset", int f = fresh(W "pw"); write(f, "abc", 3); pwrite(f, "Z", 1, 0);
      IS(3, lseek(f, 0, SEEK_CUR)););
    P("ws_pwrite_append", int f = fresh(W "pa"); write(f, "abc", 3); int g = open(W "pa", O_WRONLY | O_APPEND);
      pwrite(g, "Z", 1, 0); N("%ld", size_of(W "pa")); 0;);
    P("ws_pwrite_negative", int f = fresh(W "pn"); pwrite(f, "Z", 1, -5) < 0 ? -1 : 0;);
    P("ws_append_two", int f = fresh(W "a2"); int g = open(W "a2", O_WRONLY | O_APPEND);
      int h = open(W "a2", O_WRONLY | O_APPEND);
      write(g, "aa", 2); write(h, "bb", 2); write(g, "c", 1); IS(5, size_of(W "a2")););
    P("ws_append_set_later", int f = fresh(W "al"); write(f, "abc", 3); fcntl(f, F_SETFL, O_APPEND);
      lseek(f, 0, SEEK_SET);
      write(f, "d", 1); IS(4, size_of(W "al")););
    P("ws_writev", int f = fresh(W "wv"); struct iovec v[3] = {{"ab", 2}, {"", 0}, {"cde", 3}};
      IS(5, writev(f, v, 3)););
    P("ws_pwritev", int f = fresh(W "wv"); struct iovec v[2] = {{"ab", 2}, {"cde", 3}}; IS(5, pwritev(f, v, 2, 10)););
    P("ws_pwritev2_append", int f = fresh(W "w2"); write(f, "abc", 3); struct iovec v = {"d", 1};
      pwritev2(f, &v, 1, 0, RWF_APPEND) < 0 ? -1 : IS(4, size_of(W "w2")););
    P("ws_hole_is_zero", int f = fresh(W "ho"); pwrite(f, "x", 1, 9000); text[5] = 9; pread(f, text, 10, 0);
      IS(0, text[5]););
    P("ws_read_write_only", int f = open(W "a", O_CREAT | O_WRONLY, 0644); read(f, text, 1) < 0 ? -1 : 0;);
    P("ws_write_bad_buffer", int f = fresh(W "wb"); write(f, (void *)8, 9) < 0 ? -1 : 0;);
    P("ws_write_nothing", int f = fresh(W "wn"); IS(0, write(f, "", 0)););
    P("ws_truncate_shrink", put(W "ts", "abcdef"); truncate(W "ts", 2) ? -1 : IS(2, size_of(W "ts")););
    P("ws_truncate_zeroes", int f = fresh(W "tz"); write(f, "abcdef", 6); ftruncate(f, 2); ftruncate(f, 6);
      pread(f, text, 6, 0);
      N("%d", text[4]); text[4] ? 1 : 0;);
    P("ws_truncate_dir", mkdir(W "d", 0755); truncate(W "d", 0););
    P("ws_truncate_missing", truncate(W "none", 0););
    P("ws_truncate_negative", put(W "a", "a"); truncate(W "a", -1););
    P("ws_ftruncate_rdonly", put(W "a", "a"); int f = open(W "a", O_RDONLY); ftruncate(f, 0););
    P("ws_truncate_seen", int f = fresh(W "tv"); write(f, "abcdef", 6); int g = open(W "tv", O_RDONLY);
      ftruncate(f, 3); IS(3, read(g, text, 9)););
    P("ws_truncate_huge", int f = fresh(W "th"); int r = ftruncate(f, 5L << 30); N("%ld", size_of(W "th") >> 30);
      ftruncate(f, 0); r;);
    P("ws_o_sync", int f = open(W "os", O_CREAT | O_RDWR | O_SYNC, 0644); IS(1, write(f, "x", 1)););
    P("ws_o_direct_unaligned", int f = open(W "od", O_CREAT | O_RDWR | O_DIRECT, 0644);
      f < 0 ? -1 : write(f, "x", 1) < 0 ? -1 : 0;);
    P("ws_o_direct_aligned", char *p = aligned_alloc(4096, 4096); memset(p, 1, 4096);
      int f = open(W "od", O_CREAT | O_RDWR | O_DIRECT, 0644);
      f < 0 ? -1 : IS(4096, write(f, p, 4096)););
    P("ws_open_excl_link", unlink(W "el"); symlink("none", W "el");
      open(W "el", O_CREAT | O_EXCL | O_WRONLY, 0644) < 0 ? -1 : 0;);
    P("ws_open_24_files", char n[40]; int r = 0; for (int i = 0; i < 24; i++) { sprintf(n, W "o%d", i);
      r |= open(n, O_CREAT | O_RDWR, 0644) < 0; } r;);
    P("ws_fallocate_punch", int f = fresh(W "fp"); write(f, text, 16384);
      fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096););
    P("ws_fallocate_keep", int f = fresh(W "fk"); fallocate(f, FALLOC_FL_KEEP_SIZE, 0, 4096););
    P("ws_fadvise", int f = fresh(W "fd"); posix_fadvise(f, 0, 0, POSIX_FADV_SEQUENTIAL););
    P("ws_readahead", int f = fresh(W "ra"); readahead(f, 0, 4096););
    P("ws_copy_range_ws", put(W "a", "abcdef"); int f = open(W "a", O_RDONLY); int g = fresh(W "cw");
      copy_file_range(f, 0, g, 0, 6, 0) < 0 ? -1 : 0;);
    P("ws_sendfile_offset", put(W "a", "abcdef"); off_t at = 2; int f = open(W "a", O_RDONLY); int g = fresh(W "sf");
      sendfile(g, f, &at, 3) < 0 ? -1 : IS(5, at););
    P("ws_splice_to_pipe", put(W "a", "abcdef"); int p[2]; pipe(p); int f = open(W "a", O_RDONLY);
      splice(f, 0, p[1], 0, 6, 0) < 0 ? -1 : 0;);
    P("ws_ficlone", put(W "a", "a"); int f = open(W "a", O_RDONLY); int g = fresh(W "fc"); ioctl(g, FICLONE, f););
    P("ws_getflags", int v; int f = fresh(W "gf"); ioctl(f, FS_IOC_GETFLAGS, &v););
    P("ws_fionread", int n = 0; put(W "a", "abc"); int f = open(W "a", O_RDONLY); int r = ioctl(f, FIONREAD, &n);
      N("%d", n); r;);
}

static void ask_mapped(void)
{
    P("ws_mmap_two_shared", int f = fresh(W "mtwo"); ftruncate(f, 4096); char *p = mmap(0, 4096, 3, MAP_SHARED, f, 0);
      char *q = mmap(0, 4096, 3, MAP_SHARED, f, 0); if (p == MAP_FAILED) return -1; p[9] = 'q'; N("%c", q[9]);
      q[9] == 'q' ? 0 : 1;);
    P("ws_mmap_private_kept_out", int f = fresh(W "mp"); write(f, "abc", 3);
      char *p = mmap(0, 4096, 3, MAP_PRIVATE, f, 0);
      if (p == MAP_FAILED) return -1; p[0] = 'Z'; pread(f, text, 1, 0); N("%c", text[0]); text[0] == 'a' ? 0 : 1;);
    P("ws_mmap_sees_write", int f = fresh(W "ms"); write(f, "abc", 3); char *p = mmap(0, 4096, 1, MAP_SHARED, f, 0);
      if (p == MAP_FAILED) return -1; pwrite(f, "Z", 1, 0); N("%c", p[0]); p[0] == 'Z' ? 0 : 1;);
    P("ws_mmap_unsynced_read", int f = fresh(W "mu"); ftruncate(f, 4096);
      char *p = mmap(0, 4096, 3, MAP_SHARED, f, 0);
      if (p == MAP_FAILED) return -1; p[0] = 'Z'; pread(f, text, 1, 0); N("%c", text[0]); text[0] == 'Z' ? 0 : 1;);
    P("ws_mmap_offset", int f = fresh(W "mo"); pwrite(f, "Q", 1, 8192);
      char *p = mmap(0, 4096, 1, MAP_SHARED, f, 8192);
      p == MAP_FAILED ? -1 : IS('Q', p[0]););
    P("ws_mmap_offset_odd", int f = fresh(W "mo"); mmap(0, 4096, 1, MAP_SHARED, f, 100) == MAP_FAILED ? -1 : 0;);
    P("ws_mmap_past_end", int f = fresh(W "me"); write(f, "x", 1); char *p = mmap(0, 1 << 16, 1, MAP_SHARED, f, 0);
      if (p == MAP_FAILED) return -1; N("%d", p[40960]); 0;);
    P("ws_mmap_write_only", int f = open(W "a", O_CREAT | O_WRONLY, 0644);
      mmap(0, 4096, 1, MAP_SHARED, f, 0) == MAP_FAILED ? -1 : 0;);
    P("ws_mmap_rdonly_shared_rw", put(W "a", "a"); int f = open(W "a", O_RDONLY);
      mmap(0, 4096, 3, MAP_SHARED, f, 0) == MAP_FAILED ? -1 : 0;);
    P("ws_mmap_exec", int f = fresh(W "mx"); write(f, "\xc3", 1); void *p = mmap(0, 4096, 5, MAP_PRIVATE, f, 0);
      if (p == MAP_FAILED) return -1; ((void (*)(void))p)(); 0;);
    P("ws_mmap_directory", int f = open(W, O_RDONLY); mmap(0, 4096, 1, MAP_SHARED, f, 0) == MAP_FAILED ? -1 : 0;);
    P("ws_mmap_after_close", int f = fresh(W "mc"); write(f, "abc", 3);
      char *p = mmap(0, 4096, 1, MAP_SHARED, f, 0); close(f);
      p == MAP_FAILED ? -1 : IS('b', p[1]););
    P("ws_mmap_8m_written", int f = fresh(W "m8"); ftruncate(f, 8 << 20);
      char *p = mmap(0, 8 << 20, 3, MAP_SHARED, f, 0);
      if (p == MAP_FAILED) return -1; memset(p, 5, 8 << 20); msync(p, 8 << 20, MS_SYNC); munmap(p, 8 << 20);
      pread(f, text, 9, 5 << 20); IS(5, text[3]););
    P("ws_msync_async", int f = fresh(W "ma"); ftruncate(f, 4096); char *p = mmap(0, 4096, 3, MAP_SHARED, f, 0);
      p[0] = 1; msync(p, 4096, MS_ASYNC););
    P("ws_msync_unmapped", msync((void *)0x10000, 4096, MS_SYNC););
    P("ws_msync_odd", msync((void *)0x10001, 4096, MS_SYNC););
}

static void ask_locks(void)
{
    P("ws_flock_conflict", int f = fresh(W "lk"); int g = open(W "lk", O_RDWR);
      flock(f, LOCK_EX) || flock(g, LOCK_EX | LOCK_NB) ? -1 : 0;);
    P("ws_flock_shared", int f = fresh(W "lk"); int g = open(W "lk", O_RDWR);
      flock(f, LOCK_SH) || flock(g, LOCK_SH | LOCK_NB) ? -1 : 0;);
    P("ws_flock_released", int f = fresh(W "lk"); int g = open(W "lk", O_RDWR); flock(f, LOCK_EX); close(f);
      flock(g, LOCK_EX | LOCK_NB););
    P("ws_flock_bad", int f = fresh(W "lk"); flock(f, 77););
    P("ws_lock_getlk", struct flock l = {F_WRLCK, SEEK_SET, 0, 0, 0}; int f = fresh(W "lk");
      int r = fcntl(f, F_GETLK, &l); N("%d", l.l_type); r;);
    P("ws_lock_waits", struct flock l = {F_WRLCK, SEEK_SET, 0, 0, 0}; int f = fresh(W "lk"); fcntl(f, F_SETLKW, &l););
    P("ws_lockf", int f = fresh(W "lk"); lockf(f, F_TLOCK, 0););
    P("ws_lock_rdonly", struct flock l = {F_WRLCK, SEEK_SET, 0, 0, 0}; put(W "a", "a");
      int f = open(W "a", O_RDONLY); fcntl(f, F_SETLK, &l););
    P("ws_lease", int f = fresh(W "le"); fcntl(f, F_SETLEASE, F_WRLCK););
    P("ws_seals", int f = fresh(W "se"); fcntl(f, F_ADD_SEALS, 1) < 0 ? -1 : 0;);
}

static void ask_library(void)
{
    P("ws_stdio", FILE *f = fopen(W "st", "w+"); if (!f) return -1; fprintf(f, "%d line\n", 5); rewind(f);
      int n = 0; fscanf(f, "%d", &n); fclose(f); IS(5, n););
    P("ws_stdio_append", put(W "sa2", "ab"); FILE *f = fopen(W "sa2", "a"); if (!f) return -1; fputs("cd", f);
      fclose(f); IS(4, size_of(W "sa2")););
    P("ws_stdio_exclusive", put(W "a", "a"); fopen(W "a", "wx") ? 0 : -1;);
    P("ws_stdio_seek", FILE *f = fopen(W "ss", "w+"); fputs("abcdef", f); fseek(f, 2, SEEK_SET); int c = fgetc(f);
      fclose(f); IS('c', c););
    P("ws_getline", put(W "gl", "one\ntwo\n"); FILE *f = fopen(W "gl", "r"); char *l = 0; size_t n = 0;
      getline(&l, &n, f); long r = getline(&l, &n, f); fclose(f); IS(4, r););
    P("ws_mkstemp", char n[] = W "tXXXXXX"; mkstemp(n) < 0 ? -1 : 0;);
    P("ws_mkdtemp", char n[] = W "uXXXXXX"; mkdtemp(n) ? 0 : -1;);
    P("ws_remove", put(W "rm", "x"); remove(W "rm"););
    P("ws_freopen", FILE *f = fopen(W "f1", "w"); f = freopen(W "f2", "w", f); if (!f) return -1; fputs("x", f);
      fclose(f); IS(1, size_of(W "f2")););
    P("ws_readdir_sees_new", mkdir(W "rn", 0755); int a = count(W "rn"); put(W "rn/x", "x");
      IS(1, count(W "rn") - a););
    P("ws_readdir_dots", mkdir(W "rd", 0755); IS(2, count(W "rd")););
    P("ws_readdir_kinds", mkdir(W "rk", 0755); put(W "rk/f", "x"); mkdir(W "rk/d", 0755); symlink("f", W "rk/l");
      int k = 0; DIR *d = opendir(W "rk");
      for (struct dirent *e;
      (e = readdir(d));) if (e->d_name[0] != '.') k += e->d_type == DT_REG ? 1 : e->d_type == DT_DIR ? 10 : e->d_type == DT_LNK ? 100 : 0;
      closedir(d); IS(111, k););
    P("ws_readdir_unlinking", mkdir(W "ru", 0755); char n[40]; for (int i = 0; i < 20;
      i++) { sprintf(n, W "ru/%d", i); put(n, "x"); }
      DIR *d = opendir(W "ru"); int k = 0; for (struct dirent *e;
      (e = readdir(d));) if (e->d_name[0] != '.') { sprintf(n, W "ru/%s", e->d_name); k += !unlink(n);
      } closedir(d); IS(20, k););
    P("ws_dir_fsync", int d = open("/workspace", O_RDONLY | O_DIRECTORY); fsync(d););
    P("ws_inotify_event", int f = inotify_init1(IN_NONBLOCK); if (f < 0) return -1;
      inotify_add_watch(f, "/workspace", IN_CREATE); unlink(W "in"); put(W "in", "x");
      read(f, text, 999) < 0 ? -1 : 0;);
    P("ws_chdir_relative", chdir(W); int r = mkdir("rel", 0755) || put("rel/x", "x"); chdir("/");
      r ? -1 : IS(1, size_of(W "rel/x")););
    P("ws_mknod_device", unlink(W "nd"); mknod(W "nd", S_IFCHR | 0600, 0x103););
    P("ws_mknod_file", unlink(W "nf"); mknod(W "nf", S_IFREG | 0600, 0););
}

void ask_workspace(void)
{
    ask_names();
    ask_modes();
    ask_data();
    ask_mapped();
    ask_locks();
    ask_library();
}
