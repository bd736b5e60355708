-- Objects that no attachment names any more. The database is the only one that sees every deletion, also those by
-- cascade; the API worker then deletes the objects and, once that is done, these rows.
create table abandoned_object (
    object_key text primary key,
    abandoned_at timestamptz not null default now()
);

create function abandon_object() returns trigger
language plpgsql as $$
begin
    insert into abandoned_object (object_key) values (old.object_key) on conflict do nothing;
    return null;
end;
$$;

create trigger attachment_deleted
after delete on attachment
for each row execute function abandon_object();
